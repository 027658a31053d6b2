//! `cargo xtask test`: all tests of the workspace, and before them what they need.

use std::process::{ExitCode, Stdio};

use wayhome_lab::systemd::Image;

use crate::say::say;
use crate::{Result, cargo, finish, openssh10, packages};

/// Passed on to the test runner.
#[derive(clap::Args)]
pub struct Args {
    /// What `cargo nextest run` (or `cargo test`) is told besides
    #[arg(last = true)]
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut needs = packages::TEST.to_vec();
    // A person who cannot install them can do most without; the tests say which shells they skip.
    if is_required() || packages::can_install() {
        needs.extend(packages::SHELLS);
    }
    if !packages::bring(&needs)? {
        return Ok(ExitCode::FAILURE);
    }
    bring_image()?;
    let mut tests = cargo();
    match openssh10::bring() {
        Ok(openssh10::Brought::At(folder)) => {
            tests.env(openssh10::VARIABLE, folder);
        }
        Ok(openssh10::Brought::NotHere(why)) => say(format_args!("without OpenSSH 10: {why}")),
        // Where the lab must be whole, a test that does not run is a failure.
        Err(why) if is_required() => return Err(why),
        Err(why) => say(format_args!("without OpenSSH 10: {why}")),
    }
    if has_nextest() {
        tests.args(["nextest", "run", "--workspace"]);
    } else {
        say(format_args!("no cargo-nextest here; `cargo test` does it too, and slower"));
        // Five machines and their servers for each test: more at once disturb each other's times.
        tests.args(["test", "--workspace"]).env("RUST_TEST_THREADS", "2");
    }
    finish(tests.args(&args.args))
}

/// The disk of the tests that boot a systemd.
fn bring_image() -> Result<()> {
    let made = Image::is_possible().and_then(|()| {
        if Image::find().is_err() {
            say(format_args!("Making a small Debian in `target/`, for tests that boot (a minute)"));
        }
        Image::make().map(drop)
    });
    match made {
        Err(why) if is_required() => return Err(why.into()),
        Err(why) => say(format_args!("without a real systemd: {why}")),
        Ok(()) => {}
    }
    Ok(())
}

fn has_nextest() -> bool {
    let mut asked = cargo();
    asked.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

/// Whether the lab must be whole: then a test that does not run is a failure.
fn is_required() -> bool {
    std::env::var_os("WAYHOME_LAB").is_some_and(|lab| lab == "required")
}
