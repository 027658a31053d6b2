//! `grants.toml`: what keys may do, at a gateway or at home, read again whenever it changes.
//!
//! An entry that is wrong is passed over and told of: the others count. A file that cannot be read as
//! a whole, or that others may write, lets nobody in that is not in yet, and cuts nobody: what was
//! read before still stands for those.

pub mod form;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch::{Receiver, Sender, channel};
use wayhome_core::grant::{Grants, Seat};

use crate::error::{Failure, Outcome};
use crate::watch::Edits;

/// Some 20,000 grants. What is larger is some other file.
const MAX_SIZE: u64 = 8 * 1024 * 1024;

/// What stands, at one moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What was read last.
    pub grants: Arc<Grants>,
    /// Entries that were passed over: where, which, and why.
    pub passed_over: Vec<String>,
    /// Why the file as it is now could not be read: nobody new is let in.
    pub trouble: Option<String>,
    /// When it was read last.
    pub read: Instant,
}

/// A file of grants, followed for as long as this is kept.
#[derive(Debug)]
pub struct Followed {
    path: PathBuf,
    seat: Seat,
    standing: Sender<Arc<Standing>>,
}

impl Followed {
    /// Reads a file for the first time. There has to be one.
    ///
    /// # Errors
    /// If it cannot be read as a whole: where it was so from the beginning, nobody could get in, and
    /// whoever starts this is there to be told.
    pub fn open(path: &Path, seat: Seat) -> Outcome<Self> {
        let (grants, passed_over) = read(path, seat)?;
        report(&passed_over);
        let standing =
            Standing { grants: Arc::new(grants), passed_over, trouble: None, read: Instant::now() };
        Ok(Self { path: path.to_owned(), seat, standing: channel(Arc::new(standing)).0 })
    }

    /// What stands now, and each time that it changes.
    pub fn standing(&self) -> Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it again whenever it may have changed. Never ends.
    pub async fn follow(&self) {
        loop {
            // Begun before it is read, so that no edit falls in between; and anew after each edit, since
            // the file may lie elsewhere then, behind another link.
            let edits = Edits::of(&self.path);
            self.read_again();
            let changed = match edits {
                Ok(mut edits) => edits.next().await,
                Err(why) => Err(why),
            };
            if let Err(why) = changed {
                tracing::warn!(
                    "changes of `{}` cannot be seen ({why}); SIGHUP tells of them",
                    self.path.display()
                );
                return std::future::pending().await;
            }
        }
    }

    /// Reads it again, now.
    pub fn read_again(&self) {
        let before = Arc::clone(&self.standing.borrow());
        let now = match read(&self.path, self.seat) {
            Ok((grants, passed_over)) => Standing {
                grants: Arc::new(grants),
                passed_over,
                trouble: None,
                read: Instant::now(),
            },
            Err(why) => Standing { trouble: Some(why.to_string()), ..(*before).clone() },
        };
        let is_same = before.grants == now.grants
            && before.passed_over == now.passed_over
            && before.trouble == now.trouble;
        if is_same {
            return;
        }
        match &now.trouble {
            Some(why) => tracing::error!(
                event = "grants-unreadable",
                "nobody new is let in, since the grants cannot be read: {why}"
            ),
            None => {
                report(&now.passed_over);
                let count = now.grants.iter().count();
                tracing::info!(event = "grants-read", "the grants were read again: {count}");
            }
        }
        self.standing.send_replace(Arc::new(now));
    }
}

fn report(passed_over: &[String]) {
    for why in passed_over {
        tracing::error!(event = "grant-passed-over", "{why}");
    }
}

/// Reads a file of grants: them, and what was passed over.
///
/// # Errors
/// If it cannot be read as a whole.
pub fn read(path: &Path, seat: Seat) -> Outcome<(Grants, Vec<String>)> {
    form::parse(&text(path)?, path, seat)
}

fn text(path: &Path) -> Outcome<String> {
    let shown = path.display();
    let unreadable = |why: &io::Error| {
        Failure::usage(format!("the grants `{shown}` cannot be read"))
            .because(why)
            .hint("write them as docs/protocol.md shows: a `[[grant]]` for each key")
    };
    let meta = fs::metadata(path).map_err(|why| unreadable(&why))?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("the grants `{shown}` are not a file")));
    }
    // Whoever can write it lets in whom they like.
    if meta.mode() & 0o022 != 0 {
        return Err(Failure::usage(format!(
            "the grants `{shown}` can be written by others (mode {:04o})",
            meta.mode() & 0o7777
        ))
        .hint(format!("`chmod go-w {shown}`")));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_string(&mut text));
    if text.len() as u64 > MAX_SIZE {
        return Err(Failure::usage(format!("`{shown}` is too large to be a file of grants")));
    }
    read.map(|_| text).map_err(|why| unreadable(&why))
}

#[cfg(test)]
mod tests;
