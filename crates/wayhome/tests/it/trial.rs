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

/// What is shown, a line for each, where there is an sshd.
const STEPS: [&str; 15] = [
    "throwaway keys",
    "the gateway's sshd",
    "the home's sshd",
    "the gateway's wayhome",
    "the stock road is proven",
    "the native road is proven",
    "the laptop's configuration",
    "ssh home-ubuntu by the stock road, the first time",
    "ssh home-ubuntu by the native road, the first time",
    CUT,
    CUT,
    CUT,
    "ssh home-ubuntu by the stock road, again",
    "ssh home-ubuntu by the native road, again",
    GONE,
];

/// And where there is none.
const NATIVE_STEPS: [&str; 9] = [
    "throwaway keys",
    "a page at home",
    "the gateway's wayhome",
    "the native road is proven",
    "the laptop's configuration",
    "home-ubuntu's page by the native road, the first time",
    CUT,
    "home-ubuntu's page by the native road, again",
    GONE,
];

const CUT: &str = "cut, and proven again";
const GONE: &str = "all of it is gone again";

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
        self.child.stdout.take().map(|mut rest| rest.read_to_string(&mut out).unwrap());
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
    // Each road is proven since the agent began: they come about at once.
    let proven = |name: &str| steps.iter().find(|step| step["step"] == name).map(seconds).unwrap();
    let at_once = proven(STEPS[4]).min(proven(STEPS[5]));
    let sum = steps.iter().map(seconds).sum::<f64>() - at_once;
    let whole = seconds(&report);
    assert!(sum <= whole && whole < sum + 5.0, "{sum} of {whole} are told of");
    let down = report["down"].as_array().unwrap();
    let cuts: Vec<_> = down.iter().map(|down| (&down["cut"], down["road"].as_str())).collect();
    let expected = [("kill -9", "stock"), ("fell silent", "stock"), ("started again", "native")];
    for ((cut, road), (name, its)) in cuts.iter().zip(expected) {
        assert!(cut.as_str().unwrap().contains(name) && *road == Some(its), "{cuts:?}");
    }
    let times: Vec<f64> = down.iter().map(seconds).collect();
    let told: Vec<f64> = steps.iter().filter(|s| s["step"] == CUT).map(seconds).collect();
    assert_eq!(times, told);
    assert!(times.iter().all(|time| (0.0..20.0).contains(time)), "{times:?}");
    let home = report["home"].as_array().unwrap();
    for (visit, (road, step)) in home.iter().zip([("stock", 12), ("native", 13)]) {
        assert_eq!((visit["road"].as_str(), seconds(visit)), (Some(road), seconds(&steps[step])));
        assert_eq!(steps[step]["road"], road);
    }
    assert_eq!(home.len(), 2);
}

fn assert_told(said: &str, steps: &[&str]) {
    let told = told(said);
    assert!(told.len() >= steps.len(), "{said}");
    for (what, step) in told.iter().zip(steps) {
        assert!(what.starts_with(step), "{what}: {said}");
    }
}

/// The steps that were told of, with their times before them.
fn told(said: &str) -> Vec<&str> {
    // A step's further lines, and the table at the end, have no step of these names.
    let steps = said.lines().filter_map(|line| line.trim_start().split_once("s  "));
    let steps = steps.filter(|(time, _)| time.ends_with(" m") || time.ends_with(' '));
    steps.map(|(_, what)| what).collect()
}

#[test]
fn shows_each_step_with_its_time_and_how_long_the_road_was_down() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let (code, out, said) = output(&mut wayhome(&machine, &["try"]));
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    assert_told(&said, &STEPS);
    let (_, table) = said.split_once("It was cut, and came back by itself:\n").expect(&said);
    assert!(table.contains("s  the link's ssh was killed (kill -9)\n"), "{said}");
    let (_, both) = table.split_once("ssh home-ubuntu, once it was back:\n").expect(&said);
    assert_eq!(told(both), ["by the stock road", "by the native road"], "{said}");
    assert_nothing_is_left(&machine, "at the end");
}

#[test]
fn without_an_sshd_the_native_road_leads_to_a_page() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    // As if it were not installed: a device is no program.
    machine.sh("mount --bind /dev/null $(command -v sshd || echo /usr/sbin/sshd)").unwrap();
    let mut kept = Running::start(wayhome(&machine, &["try", "--keep"]));
    let why = kept.until_said("without an OpenSSH server only the native road is shown");
    assert!(why.contains("openssh-server"), "{why}");
    let mut command = String::new();
    BufReader::new(kept.child.stdout.as_mut().unwrap()).read_line(&mut command).unwrap();
    let page = machine.sh(&command).unwrap();
    assert!(page.starts_with("HTTP/1.0 200 OK\r\n"), "{page}");
    assert!(page.ends_with("\r\n\r\nYou are at home-ubuntu.\n"), "{page}");
    process::signal(kept.pid(), Signal::INT);
    assert_eq!(kept.end().0, Some(0));
    assert_nothing_is_left(&machine, "after ^C");

    let (code, out, said) = output(&mut wayhome(&machine, &["try"]));
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    assert_told(&said, &NATIVE_STEPS);
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
fn a_road_that_a_person_must_mend_is_not_waited_for() {
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
    let because = "error: a link was halted, so the road was not proven\n  hint: ";
    assert!(said.contains(because), "{said}");
    assert_nothing_is_left(&machine, "after that");
}

#[test]
fn it_is_kept_until_it_is_interrupted() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let mut kept = Running::start(wayhome(&machine, &["try", "--keep"]));
    let mut lines = BufReader::new(kept.child.stdout.take().unwrap()).lines();
    for road in ["stock", "native"] {
        let command = lines.next().unwrap().unwrap();
        assert!(command.contains(road), "{command}");
        assert_eq!(machine.sh(&format!("{command} 'id -un'")).unwrap(), "root\n");
    }
    let agent = kept.until_said("/wayhome status");
    assert!(machine.sh(&agent).unwrap().starts_with("home-ubuntu (agent "));
    let gateway = kept.until_said("/wayhome status");
    assert!(machine.sh(&gateway).unwrap().contains("home-ubuntu"));
    process::signal(kept.pid(), Signal::INT);
    kept.until_said(GONE);
    assert_eq!(kept.end().0, Some(0), "it is the way to end it");
    assert_nothing_is_left(&machine, "after ^C");
}

#[test]
fn broken_off_at_any_moment_it_leaves_nothing() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    let signals = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
    // One after the other; of the cuts the first, which is while the link is silent.
    let moments = STEPS[..10].iter().chain(&STEPS[12..14]);
    for (step, (signal, code)) in moments.zip(signals.iter().cycle()) {
        let mut trial = Running::start(wayhome(&machine, &["try"]));
        trial.until_said(step);
        process::signal(trial.pid(), *signal);
        let ended = trial.end();
        // After the last step it cleans up by itself, and may be done with that.
        let by_itself = *step == STEPS[13] && ended.0 == Some(0);
        assert!(by_itself || ended == (Some(*code), String::new()), "after `{step}`: {ended:?}");
        assert_nothing_is_left(&machine, step);
    }
}

#[test]
fn killed_it_leaves_no_program_and_the_next_one_removes_its_folder() {
    needs_lab!();
    let machine = Machine::start("here").unwrap();
    // While all runs, and while the link is frozen.
    for step in [STEPS[5], CUT] {
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
