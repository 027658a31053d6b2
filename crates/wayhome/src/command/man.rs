//! `wayhome man`

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Failure, Outcome};
use crate::manual::page::{self, Page};
use crate::{cli, report};

/// Print the manual, or install its pages
///
/// The pages are made of the same definition as the help, for exactly this version: one for the
/// program, one for each command, and wayhome-agent.toml(5).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome man | man -l -
  wayhome man wayhome-agent-run | man -l -
  wayhome man --dir ~/.local/share/man")]
pub struct Args {
    /// Which page to print
    #[arg(value_name = "PAGE", default_value = "wayhome")]
    page: String,
    /// Write all pages below this folder: man1/wayhome.1 and so on
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let pages = page::all(cli::definition())
        .map_err(|error| Failure::new("the manual cannot be made").because(&error))?;
    match &args.dir {
        Some(dir) => install(&pages, dir)?,
        None => print(&pages, &args.page)?,
    }
    Ok(0)
}

fn print(pages: &[Page], wanted: &str) -> Outcome {
    let Some(page) = pages.iter().find(|page| page.name == wanted || page.file() == wanted) else {
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        return Err(Failure::usage(format!("there is no page `{}`", wanted.escape_default()))
            .hint(format!("the pages are {}", names.join(", "))));
    };
    report::data("the page", String::from_utf8_lossy(&page.text))
}

fn install(pages: &[Page], dir: &Path) -> Outcome {
    for page in pages {
        let folder = dir.join(format!("man{}", page.section));
        let file = folder.join(page.file());
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, &page.text));
        written.map_err(|error| {
            Failure::new(format!("`{}` cannot be written", file.display())).because(&error)
        })?;
    }
    report::note(format!("wrote {} pages below `{}`", pages.len(), dir.display()));
    Ok(())
}
