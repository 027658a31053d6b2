//! Who may enter: the file of grants that the configuration names, followed for as long as it does.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::sleep;
use wayhome_core::grant::{Grants, Seat};
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;
use wayhome_core::status::gateway::GrantsStatus;
use wayhome_core::status::millis;

use super::refused;
use crate::error::Outcome;
use crate::grants::{Followed, Standing};
use crate::wire::messages::Refused;

/// Clocks are set, and machines sleep: however far ahead the next expiry is, it is looked for at
/// least this often.
const LOOK: Duration = Duration::from_secs(30);

/// The home's grants.
#[derive(Debug)]
pub struct Rules {
    standing: watch::Sender<Arc<Standing>>,
    /// The file that they are read from.
    file: watch::Sender<Option<Arc<Followed>>>,
}

impl Rules {
    /// None: nobody but the home itself may enter.
    pub fn none() -> Self {
        Self { standing: watch::Sender::new(Arc::new(nothing())), file: watch::Sender::new(None) }
    }

    /// Goes by this file from now on, or by none. One that it goes by already is read again.
    ///
    /// # Errors
    /// If the file cannot be read; then all stays as it is.
    pub fn follow(&self, path: Option<&Path>) -> Outcome {
        let before = self.file.borrow().clone();
        match (path, before) {
            (None, None) => {}
            (None, Some(_)) => {
                self.file.send_replace(None);
                self.standing.send_replace(Arc::new(nothing()));
            }
            (Some(path), Some(file)) if file.path() == path => {
                file.read_again();
                self.standing.send_replace(Arc::clone(&file.standing().borrow()));
            }
            (Some(path), _) => {
                let file = Arc::new(Followed::open(path, Seat::Home)?);
                self.standing.send_replace(Arc::clone(&file.standing().borrow()));
                self.file.send_replace(Some(file));
            }
        }
        Ok(())
    }

    /// Takes over what is edited in the file. Never ends.
    pub async fn keep_up(&self) {
        let mut files = self.file.subscribe();
        loop {
            let file = files.borrow_and_update().clone();
            let keep_up = async {
                let Some(file) = file else { return std::future::pending().await };
                let mut changes = file.standing();
                let take_over = async {
                    while changes.changed().await.is_ok() {
                        let standing = Arc::clone(&changes.borrow_and_update());
                        self.standing.send_replace(standing);
                    }
                };
                tokio::join!(file.follow(), take_over);
            };
            tokio::select! {
                () = keep_up => {}
                _ = files.changed() => {}
            }
        }
    }

    /// Whether somebody who comes now may use a service.
    ///
    /// # Errors
    /// What it is told otherwise.
    pub fn admit(&self, key: &Key, service: &Name) -> Result<(), Refused> {
        let standing = self.standing.borrow();
        if standing.trouble.is_some() {
            return Err(refused::because(
                Reason::NotAllowed,
                "the home cannot read its grants just now, and lets nobody new in",
            ));
        }
        match standing.grants.may_use(key, service, seconds()) {
            Ok(_) => Ok(()),
            Err(reason) => Err(refused::because(reason, "")),
        }
    }

    /// Waits until somebody who was let in may not use the service any more.
    pub fn withdrawn(&self, key: Key, service: Name) -> impl Future<Output = Reason> + use<> {
        let mut changes = self.standing.subscribe();
        async move {
            loop {
                let grants = Arc::clone(&changes.borrow_and_update().grants);
                let now = seconds();
                if let Err(reason) = grants.may_use(&key, &service, now) {
                    return reason;
                }
                let expiry = grants.next_expiry(now).map(|end| Duration::from_secs(end - now));
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() {
                        // The agent ends, and this stream with it.
                        return std::future::pending().await;
                    },
                    () = sleep(expiry.unwrap_or(LOOK).min(LOOK)) => {}
                }
            }
        }
    }

    /// For `status`; `None` without a file.
    pub fn status(&self) -> Option<GrantsStatus> {
        let file = self.file.borrow().clone()?;
        let standing = self.standing.borrow();
        Some(GrantsStatus {
            file: file.path().display().to_string(),
            read_ms: millis(standing.read.elapsed()),
            count: standing.grants.iter().count(),
            passed_over: standing.passed_over.clone(),
            error: standing.trouble.clone(),
        })
    }
}

fn nothing() -> Standing {
    Standing {
        grants: Arc::new(Grants::default()),
        passed_over: Vec::new(),
        trouble: None,
        read: Instant::now(),
    }
}

/// The time as grants have it.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|span| span.as_secs()).unwrap_or_default()
}
