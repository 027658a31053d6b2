//! The manual's pages, read by those who show them.

use std::fs;
use std::path::PathBuf;

use super::sandbox::{Sandbox, has, text};

fn pages(sandbox: &Sandbox) -> Vec<PathBuf> {
    let output = sandbox.wayhome(&["man", "--dir", "man"]).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let mut pages = Vec::new();
    for folder in ["man/man1", "man/man5"] {
        pages.extend(fs::read_dir(sandbox.path(folder)).unwrap().map(|page| page.unwrap().path()));
    }
    pages.sort();
    pages
}

#[test]
fn each_page_is_shown_without_a_complaint() {
    let sandbox = Sandbox::new();
    let pages = pages(&sandbox);
    let readers: [(&str, &[&str]); 3] = [
        ("man", &["--warnings", "-E", "UTF-8", "-l"]),
        ("groff", &["-man", "-ww", "-z", "-K", "utf8", "-T", "utf8"]),
        ("mandoc", &["-T", "lint", "-W", "error"]),
    ];
    for (reader, arguments) in readers {
        if !has(reader) {
            eprintln!("skipped: there is no `{reader}`");
            continue;
        }
        for page in &pages {
            let output = sandbox.program(reader).args(arguments).arg(page).output().unwrap();
            assert!(output.status.success(), "{reader} {}: {output:?}", page.display());
            assert_eq!(text(&output.stderr), "", "{reader} {}", page.display());
        }
    }
}

#[test]
fn man_finds_them_in_their_folder() {
    let sandbox = Sandbox::new();
    pages(&sandbox);
    if !has("man") {
        return eprintln!("skipped: there is no `man`");
    }
    for (page, part) in [
        ("wayhome", "ENVIRONMENT"),
        ("wayhome-agent-run", "EXIT STATUS"),
        ("wayhome-agent.toml", "[[gateway]]"),
    ] {
        let mut man = sandbox.program("man");
        let output = man.args(["-M"]).arg(sandbox.path("man")).arg(page).output().unwrap();
        let shown = text(&output.stdout);
        assert!(output.status.success() && shown.contains(part), "{page}: {output:?}");
    }
}

#[test]
fn one_page_is_printed() {
    let sandbox = Sandbox::new();
    for page in ["wayhome-agent-run", "wayhome-agent-run.1"] {
        let output = sandbox.wayhome(&["man", page]).output().unwrap();
        assert!(text(&output.stdout).contains(".TH \"WAYHOME-AGENT-RUN\" \"1\""), "{output:?}");
    }
}
