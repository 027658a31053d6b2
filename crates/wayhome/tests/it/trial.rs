//! `wayhome try`, the real program on a machine of the lab: as root and as a plain user, to its end and
//! broken off at any moment.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use wayhome_lab::{Machine, assert_eventually, needs_lab, process};

use crate::seats::{SOON, output, wayhome};

/// What is shown, a line for each.
const STEPS: [&str; 10] = [
    "throwaway keys",
    "the gateway's sshd",
    "the home's sshd",
    "the agent's road is proven",
    "the laptop's configuration",
    "ssh home-ubuntu, the first time",
    "cut, and proven again",
    "cut, and proven again",
    "ssh home-ubuntu, again",
    "all of it is gone again",
];

/// A trial that goes on.
struct Running {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, said }
    }

    /// The program itself: what was spawned is the way into the machine.
    fn pid(&self) -> u32 {
        let children = process::children(self.child.id());
        *children.first().expect("the program runs")
    }

    /// Reads up to the line of a step.
    fn until_said(&mut self, what: &str) -> String {
        let line = self.said.find(|line| line.as_ref().unwrap().contains(what));
        line.unwrap_or_else(|| panic!("`{what}` was never said")).unwrap()
    }

    /// Waits for the end. Gives the exit code, and what was written to standard output meanwhile.
    fn end(mut self) -> (Option<i32>, String) {
        let rest: Vec<String> = self.said.map_while(Result::ok).collect();
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code();
        assert!(code.is_some_and(|code| code != 1), "{rest:?}");
        (code, out)
    }
}

/// What is in /tmp, but for the way to this repository if it lies there: a machine of the lab has it, too.
fn left_files(machine: &Machine) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).strip_prefix("/tmp").ok();
    let here = here.and_then(|way| way.iter().next()).and_then(|name| name.to_str());
    let files = machine.sh("ls -A /tmp").unwrap();
    files.lines().filter(|name| here != Some(name)).collect::<Vec<_>>().join("\n")
}

/// The programs of a trial that still run, whoever is their parent now.
fn left_processes(machine: &Machine) -> String {
    let script = "cat /proc/[0-9]*/comm 2> /dev/null | grep -E '^(wayhome|ssh)' || true";
    machine.sh(script).unwrap()
}

fn assert_nothing_is_left(machine: &Machine, when: &str) {
    assert_eq!(left_files(machine), "", "{when}");
    assert_eventually!(left_processes(machine).is_empty(), within = SOON, "{when}");
}

/// Parses what `--json` printed, and checks it.
fn check_json(text: &str) {
    let report: serde_json::Value = serde_json::from_str(text).expect(text);
    let steps = report["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    let seconds = |value: &serde_json::Value| value["seconds"].as_f64().unwrap();
    let sum: f64 = steps.iter().map(seconds).sum();
    let whole = seconds(&report);
    assert!(sum <= whole && whole < sum + 5.0, "{sum} of {whole} are told of");
    let down = report["down"].as_array().unwrap();
    let cuts: Vec<&str> = down.iter().map(|down| down["cut"].as_str().unwrap()).collect();
    assert!(cuts[0].contains("kill -9") && cuts[1].contains("fell silent"), "{cuts:?}");
    for (down, step) in down.iter().zip(steps.iter().filter(|s| s["step"] == STEPS[6])) {
        assert_eq!(seconds(down), seconds(step));
        assert!((0.0..20.0).contains(&seconds(down)), "{down}");
    }
}

#[test]
fn shows_each_step_with_its_time_and_how_long_the_road_was_down() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let (code, out, said) = output(&mut wayhome(&machine, &["try"]));
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    // A step's further lines stand beside its time.
    let steps = said.lines().filter_map(|line| line.trim_start().split_once("s  "));
    let steps: Vec<_> = steps.filter(|(time, _)| !time.contains("  ")).take(STEPS.len()).collect();
    assert_eq!(steps.len(), STEPS.len(), "{said}");
    for ((time, what), step) in steps.iter().zip(STEPS) {
        assert!(time.ends_with(" m") || time.ends_with(' '), "{time}: {said}");
        assert!(what.starts_with(step), "{what}: {said}");
    }
    assert!(said.contains(" s  the link's ssh was killed (kill -9)\n"), "{said}");
    assert_nothing_is_left(&machine, "at the end");
}

#[test]
fn a_plain_user_needs_no_root_and_scripts_get_json() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    machine.add_user("fan", 4001, "/bin/sh").unwrap();
    let program = machine.bring(env!("CARGO_BIN_EXE_wayhome").as_ref()).unwrap();
    let mut as_fan = machine.command_as("fan", &program).unwrap();
    let (code, out, said) = output(as_fan.args(["try", "--json"]));
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    check_json(&out);
    assert_nothing_is_left(&machine, "at the end");
    assert_eq!(machine.sh("ls -A ~fan").unwrap(), "", "nothing was written at home");
    let (code, out, said) = output(&mut wayhome(&machine, &["try", "--json"]));
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    check_json(&out);
}

#[test]
fn a_folder_for_temporary_files_that_ssh_or_a_socket_cannot_have_is_passed_over() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    for folder in ["/tmp/a b%u\"$'", &format!("/tmp/{}", "d".repeat(100))] {
        fs::create_dir(machine.file(folder)).unwrap();
        let (code, _, said) = output(wayhome(&machine, &["try"]).env("TMPDIR", folder));
        assert_eq!(code, 0, "{said}");
        fs::remove_dir(machine.file(folder)).expect("it is empty");
        assert_nothing_is_left(&machine, folder);
    }
}

#[test]
fn an_agent_that_ends_at_once_is_not_waited_for() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let fan = machine.add_user("fan", 4001, "/bin/sh").unwrap();
    machine
        .sh("mkdir -m 700 ~fan/.ssh && echo Nonsense > ~fan/.ssh/config && chown -R fan ~fan/.ssh")
        .unwrap();
    let program = machine.bring(env!("CARGO_BIN_EXE_wayhome").as_ref()).unwrap();
    let began = Instant::now();
    let (code, _, said) = output(fan.command(program).arg("try").stdin(Stdio::null()));
    assert_eq!(code, 1, "{said}");
    assert!(began.elapsed() < SOON, "{said}");
    assert!(said.contains("1 bad configuration options"), "{said}");
    let because = "error: the agent ended, so the road was not proven\n  hint: ";
    assert!(said.contains(because), "{said}");
    assert_nothing_is_left(&machine, "after that");
}

#[test]
fn it_is_kept_until_it_is_interrupted() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let mut kept = Running::start(wayhome(&machine, &["try", "--keep"]));
    let mut command = String::new();
    BufReader::new(kept.child.stdout.as_mut().unwrap()).read_line(&mut command).unwrap();
    assert_eq!(machine.sh(&format!("{} 'id -un'", command.trim())).unwrap(), "root\n");
    let status = kept.until_said("/wayhome status");
    assert!(machine.sh(&status).unwrap().starts_with("home-ubuntu (agent "));
    process::signal(kept.pid(), Signal::INT);
    kept.until_said(STEPS[9]);
    assert_eq!(kept.end().0, Some(0), "it is the way to end it");
    assert_nothing_is_left(&machine, "after ^C");
}

#[test]
fn broken_off_at_any_moment_it_leaves_nothing() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let signals = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
    for (step, (signal, code)) in STEPS[..9].iter().zip(signals.iter().cycle()) {
        let mut trial = Running::start(wayhome(&machine, &["try"]));
        trial.until_said(step);
        if *step == STEPS[6] {
            // The second of its kind: while the link is silent.
            trial.until_said(STEPS[7]);
        }
        process::signal(trial.pid(), *signal);
        let ended = trial.end();
        // After the last step it cleans up by itself, and may be done with that.
        let by_itself = *step == STEPS[8] && ended.0 == Some(0);
        assert!(by_itself || ended == (Some(*code), String::new()), "after `{step}`: {ended:?}");
        assert_nothing_is_left(&machine, step);
    }
}

#[test]
fn killed_it_leaves_no_program_and_the_next_one_removes_its_folder() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    // While all runs, and while the link is frozen.
    for step in [STEPS[3], STEPS[6]] {
        let mut trial = Running::start(wayhome(&machine, &["try"]));
        trial.until_said(step);
        process::signal(trial.pid(), Signal::KILL);
        trial.child.wait().unwrap();
        assert_eventually!(
            left_processes(&machine).is_empty(),
            within = SOON,
            "after `{step}`: {}",
            left_processes(&machine)
        );
        let left = left_files(&machine);
        let folder = PathBuf::from("/tmp").join(left.trim());
        assert_eq!(machine.sh(&format!("stat -c %a {}", folder.display())).unwrap(), "700\n");
    }
    let left = left_files(&machine);
    // One of a process that lives, of another user, and of no trial at all.
    machine
        .sh("mkdir /tmp/wayhome-try-1-a /tmp/wayhome-try-99999999-b /tmp/wayhome-try-x")
        .unwrap();
    machine.sh("chown 1 /tmp/wayhome-try-99999999-b").unwrap();
    let (code, _, said) = output(&mut wayhome(&machine, &["try"]));
    assert_eq!(code, 0, "{said}");
    for folder in left.lines() {
        let told = format!("removed `{}`", Path::new("/tmp").join(folder).display());
        assert!(said.contains(&told), "{said}");
    }
    let kept = "wayhome-try-1-a\nwayhome-try-99999999-b\nwayhome-try-x";
    assert_eq!(left_files(&machine), kept);
}
