//! The units before systemd's own judges, and the job before a parser of property lists.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use wayhome::service::launchd::Job;
use wayhome::service::unit::{NAME, RunsAs, Unit};

use super::WAYHOME;
use crate::seats::output;

/// Whether a program is here; where all have to run, a missing one is an error.
fn has(program: &str) -> bool {
    let is_here = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_here {
        let required = std::env::var_os("WAYHOME_LAB").is_some_and(|lab| lab == "required");
        assert!(!required, "`{program}` is missing");
        eprintln!("skipped: `{program}` is missing");
    }
    is_here
}

fn unit(runs_as: RunsAs) -> Unit {
    let config = "/etc/wayhome/agent.toml".into();
    Unit { program: WAYHOME.into(), config, runs_as, systemd: None }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has("systemd-analyze") {
        return;
    }
    for (runs_as, scope) in [
        (RunsAs::Own, "--system"),
        (RunsAs::Person("root".into()), "--system"),
        (RunsAs::Me, "--user"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        fs::write(&file, unit(runs_as.clone()).render()).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", "--recursive-errors=no", scope]).arg(&file);
        let (code, _, error) = output(verify.env("XDG_RUNTIME_DIR", folder.path()));
        let ours: Vec<&str> = error.lines().filter(|line| line.contains("wayhome")).collect();
        assert!(ours.is_empty(), "{runs_as:?}: {error}");
        assert_eq!(code, 0, "{runs_as:?}: {error}");
    }
}

#[test]
fn systemd_rates_the_system_units_as_safe() {
    if !has("systemd-analyze") {
        return;
    }
    for runs_as in [RunsAs::Own, RunsAs::Person("fan".into())] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        fs::write(&file, unit(runs_as.clone()).render()).unwrap();
        let mut security = Command::new("systemd-analyze");
        // 25 is 2.5 of 10.
        security.args(["security", "--no-pager", "--offline=true", "--threshold=25"]).arg(&file);
        let (code, rated, error) = output(&mut security);
        assert_eq!(code, 0, "{runs_as:?}: {rated}{error}");
    }
}

#[test]
fn the_job_is_a_property_list() {
    if !has("python3") {
        return;
    }
    let printed = output(Command::new(WAYHOME).args(["service", "install", "agent", "--launchd"]));
    assert!(printed.1.contains("UNTESTED on macOS"), "{printed:?}");
    let job = Job {
        program: "/opt/a & b/wayhome".into(),
        config: "/etc/wayhome/<agent>.toml".into(),
        user: Some("fan".into()),
    };
    let script = "import plistlib, sys; job = plistlib.loads(sys.stdin.buffer.read()); \
                  print(job['Label'], job['UserName'], job['KeepAlive'], job['Umask']); \
                  print('|'.join(job['ProgramArguments']))";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(job.render().as_bytes()).unwrap();
    let said = python.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let arguments = "/opt/a & b/wayhome|agent|run|--config|/etc/wayhome/<agent>.toml";
    assert_eq!(said, format!("wayhome.agent fan True 63\n{arguments}\n"));
    assert!(job.render().contains("UNTESTED on macOS"));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_gateways_unit_and_rates_it_as_safe() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(wayhome::service::gateway::NAME);
    fs::write(&file, wayhome::service::gateway::unit(WAYHOME.as_ref())).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no", "--system"]).arg(&file);
    let (code, _, error) = output(verify.env("XDG_RUNTIME_DIR", folder.path()));
    let ours: Vec<&str> = error.lines().filter(|line| line.contains("wayhome")).collect();
    assert!(ours.is_empty() && code == 0, "{error}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--no-pager", "--offline=true", "--threshold=25"]).arg(&file);
    let (code, rated, error) = output(&mut security);
    assert_eq!(code, 0, "{rated}{error}");
}
