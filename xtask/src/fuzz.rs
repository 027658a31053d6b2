//! `cargo xtask fuzz`: lets libFuzzer say all kinds of things to what reads the words of strangers.
//!
//! It does what `cargo fuzz` does, with the toolchain that everybody has. There is no sanitizer, which
//! would need another one: our code has nothing unsafe in it, and a slip is a panic.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use crate::say::say;
use crate::{Result, cargo, finish, packages, target, workspace};

#[derive(clap::Args)]
pub struct Args {
    /// The targets, by the names of the files in `fuzz/fuzz_targets`; all of them if none is named
    targets: Vec<String>,
    /// For how long each is run
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Keep the inputs that reached something new, as few as will do, in `fuzz/corpus`
    #[arg(long)]
    keep: bool,
    /// Run one target once, with the input in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "keep"])]
    input: Option<PathBuf>,
}

/// What cargo-fuzz passes, too: libFuzzer is told of each branch and each comparison.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// A small machine has as many processors, and each target is one thread.
const AT_ONCE: usize = 2;

/// Nothing that a stranger can say may take so long, in seconds. It takes milliseconds; a machine that
/// others load may stand still for a while.
const SLOWEST: u32 = 10;

pub fn run(args: &Args) -> Result<ExitCode> {
    let names = chosen(&args.targets, all()?)?;
    if !packages::bring(packages::FUZZ)? {
        return Ok(ExitCode::FAILURE);
    }
    say(format_args!("Building the fuzz targets (the first time, some minutes)"));
    let host = host()?;
    let built = build(&host)?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let targets: Vec<Target> = names.into_iter().map(|name| Target::new(name, &host)).collect();
    match (&args.input, targets.as_slice()) {
        (None, targets) => fuzz(targets, args),
        (Some(input), [target]) => {
            finish(Command::new(&target.program).arg(std::path::absolute(input)?))
        }
        (Some(_), _) => Err("whose input is it? `cargo xtask fuzz TARGET --input FILE`".into()),
    }
}

/// All targets that there are.
fn all() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(workspace().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        all.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    all.sort();
    Ok(all)
}

fn chosen(named: &[String], all: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        return Err(format!("there is no target `{unknown}`; there are {}", all.join(", ")).into());
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

/// Where all of this is built and run.
fn folder() -> PathBuf {
    target().join("fuzz")
}

/// What this machine is called by cargo.
fn host() -> Result<String> {
    let output = cargo().arg("-vV").output()?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("`cargo -vV` does not say what machine this is")?.to_owned())
}

fn build(host: &str) -> Result<ExitCode> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a target, although it is this machine: so build scripts do not get the flags.
    build.args(["--target", host, "--target-dir"]).arg(folder());
    finish(build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")))
}

/// One program of `fuzz/fuzz_targets`, and its files.
struct Target {
    name: String,
    program: PathBuf,
    /// The inputs in git.
    kept: PathBuf,
    /// Those that were found on this machine.
    found: PathBuf,
    /// The folder for those at which it fell.
    fell: PathBuf,
    log: PathBuf,
}

impl Target {
    fn new(name: String, host: &str) -> Self {
        Self {
            program: folder().join(host).join("release").join(&name),
            kept: workspace().join("fuzz/corpus").join(&name),
            found: folder().join("corpus").join(&name),
            fell: folder().join("fell").join(&name),
            log: folder().join("logs").join(&name).with_extension("log"),
            name,
        }
    }

    fn start(&self, seconds: u32) -> Result<Child> {
        for folder in
            [Some(self.kept.as_path()), Some(&self.found), Some(&self.fell), self.log.parent()]
        {
            folder.map_or(Ok(()), fs::create_dir_all)?;
        }
        // A trailing slash makes the prefix a folder.
        let mut fuzzer = Command::new(&self.program);
        fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={SLOWEST}"));
        fuzzer
            .arg(format!("-artifact_prefix={}/", self.fell.display()))
            .arg("-print_final_stats=1");
        // The first is written to.
        fuzzer.args([&self.found, &self.kept]);
        Ok(fuzzer
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&self.log)?)
            .spawn()?)
    }

    /// Waits for its end, and tells of it. Whether nothing was found.
    fn end(&self, fuzzer: &mut Child) -> Result<bool> {
        let status = fuzzer.wait()?;
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let name = &self.name;
        if status.success() {
            let [count, rate, new] = STATS.map(|stat| figure(&log, stat).unwrap_or("?"));
            say(format_args!(
                "{name}: {count} inputs, {rate} a second; {new} reached something new"
            ));
            return Ok(true);
        }
        say(format_args!("{name}: fell ({status}); its log is `{}`", self.log.display()));
        for line in reason(&log) {
            say(format_args!("  {line}"));
        }
        match log.lines().find_map(|line| line.split_once("Test unit written to ")) {
            Some((_, input)) => {
                say(format_args!("  the input: {input}"));
                say(format_args!("  once more: cargo xtask fuzz {name} --input {input}"));
            }
            None => say(format_args!("  and left no input behind")),
        }
        Ok(false)
    }

    /// Takes into git what was found and reaches something that nothing there does.
    fn keep(&self) -> Result<()> {
        let mut merge = Command::new(&self.program);
        merge.args(["-set_cover_merge=1"]).args([&self.kept, &self.found]);
        let output = merge.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{}` could not be reduced: {said}", self.found.display()).into());
        }
        Ok(())
    }
}

/// What libFuzzer counts, of which a person is told.
const STATS: [&str; 3] = ["number_of_executed_units", "average_exec_per_sec", "new_units_added"];

fn figure<'a>(log: &'a str, stat: &str) -> Option<&'a str> {
    let line = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(stat))?;
    Some(line.trim_start_matches(':').trim())
}

/// The lines that say why it fell: those of a panic, or libFuzzer's own.
fn reason(log: &str) -> Vec<&str> {
    let panic = log.lines().skip_while(|line| !line.contains("panicked at "));
    let panic: Vec<&str> = panic.take_while(|line| !line.starts_with("note: ")).take(8).collect();
    if panic.is_empty() {
        return log.lines().filter(|line| line.contains("ERROR: libFuzzer")).collect();
    }
    panic
}

fn fuzz(targets: &[Target], args: &Args) -> Result<ExitCode> {
    let mut is_well = true;
    for some in targets.chunks(AT_ONCE) {
        let started: Result<Vec<_>> =
            some.iter().map(|target| target.start(args.seconds)).collect();
        for (target, mut fuzzer) in some.iter().zip(started?) {
            is_well &= target.end(&mut fuzzer)?;
        }
    }
    if args.keep && is_well {
        targets.iter().try_for_each(Target::keep)?;
        say(format_args!("What reached something new is in `fuzz/corpus`"));
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_target_is_one_that_there_is() {
        let all = || vec!["frames".to_owned(), "grants".to_owned()];
        assert_eq!(chosen(&[], all()).unwrap(), all());
        assert_eq!(chosen(&["grants".to_owned()], all()).unwrap(), ["grants"]);
        let why = chosen(&["frame".to_owned()], all()).unwrap_err().to_string();
        assert_eq!(why, "there is no target `frame`; there are frames, grants");
    }

    #[test]
    fn each_target_is_built_and_has_inputs_to_begin_with() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        for name in all().unwrap() {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            let corpus = root.join("fuzz/corpus").join(&name);
            assert!(corpus.read_dir().is_ok_and(|mut files| files.next().is_some()), "{name}");
        }
    }

    #[test]
    fn the_log_says_how_much_was_tried_and_why_it_fell() {
        let log = "INFO: Seed: 1\nstat::number_of_executed_units: 8642\n\
                   stat::average_exec_per_sec:     1234\nstat::new_units_added:          5\n";
        assert_eq!(STATS.map(|stat| figure(log, stat)), [Some("8642"), Some("1234"), Some("5")]);
        assert_eq!(figure("", STATS[0]), None);
        let panic = "#2 INITED\nthread '<unnamed>' (7) panicked at fuzz_targets/frames.rs:9:5:\n\
                     the pieces make a difference\nnote: run with `RUST_BACKTRACE=1`\n==7== ERROR: \
                     libFuzzer: deadly signal\n";
        assert_eq!(reason(panic).len(), 2);
        assert_eq!(reason("==7== ERROR: libFuzzer: timeout\nx\n").len(), 1);
    }
}
