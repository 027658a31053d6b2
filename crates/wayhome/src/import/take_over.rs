//! The switch as a person sees it: everything that can be proven beside the old tunnel is proven
//! first; then a service of its own does the rest, and this only watches.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use wayhome_core::name::Name;
use wayhome_core::status::LinkState;

use super::find::Manager;
use super::manager::{self, SERVICE, SWITCH};
use super::record::{self, Record};
use super::switch;
use crate::agent::control::Asked;
use crate::error::{Failure, Outcome};
use crate::{paths, report};

/// How long the new agent's login may take while the old tunnel still has the ports.
const LOGIN: Duration = Duration::from_secs(30);

/// How often to look.
const EVERY: Duration = Duration::from_millis(200);

/// How long the service may be gone before its record must be whole: it writes that last.
const GRACE: Duration = Duration::from_secs(5);

/// What is to be taken over.
#[derive(Debug)]
pub struct Request<'a> {
    /// The old tunnel's unit.
    pub old: String,
    /// Which manager has it.
    pub manager: Manager,
    /// The configuration that does the same.
    pub text: &'a str,
    /// The agent's name in it.
    pub name: Name,
    /// The account to run as; one of its own if none is named.
    pub runs_as: Option<String>,
    /// Pin a new gateway's key without asking.
    pub accept_new: bool,
}

/// Takes a tunnel over. Gives the exit code.
pub async fn take_over(request: &Request<'_>) -> Outcome<u8> {
    let mut signals = Signals::listen()?;
    check(request).await?;
    let enabled = manager::systemctl(request.manager, &["is-enabled", "--", &request.old]).await;
    let record = Record {
        old: request.old.clone(),
        old_enabled: enabled.is_ok_and(|state| state.starts_with("enabled")),
        own: request.manager == Manager::User,
        name: request.name.clone(),
        proven: false,
        story: Vec::new(),
        end: None,
    };
    install(request).await?;
    report::note("the agent runs beside the old tunnel; waiting for its login");
    if let Err(failure) = log_in(&record, &mut signals).await {
        undo(request).await;
        return Err(failure);
    }
    let place = record::place(request.manager)?;
    let program = program()?;
    let begun = async {
        if let (Manager::User, Some(folder)) = (request.manager, place.parent()) {
            paths::private_dir(folder)?;
        }
        record.write(&place)?;
        manager::start_switch(request.manager, &program, &place).await.map_err(|why| {
            Failure::new("the switch could not be started")
                .because(&std::io::Error::other(why.to_string()))
        })
    };
    if let Err(failure) = begun.await {
        undo(request).await;
        return Err(failure);
    }
    report::note(
        "the agent has logged in; now the switch. If you came in through the old tunnel, you are cut \
         off now; it goes on without you, and `wayhome import --result` tells how it ended",
    );
    watch(request.manager, &place, &mut signals).await
}

/// Tells how the last switch ended.
pub fn result(manager: Manager) -> Outcome<u8> {
    let Some(record) = Record::read(&record::place(manager)?)? else {
        return Err(Failure::usage("no tunnel was taken over on this machine")
            .hint("wayhome import --unit reverse-ssh.service --take-over"));
    };
    for line in &record.story {
        report::note(line);
    }
    match record.end {
        Some(end) => {
            report::note(end.text);
            Ok(end.code)
        }
        None => Err(Failure::usage("the switch has not ended yet").hint(format!(
            "`systemctl status {SWITCH}` shows it; if the machine was restarted meanwhile, `{}` is \
             still enabled and has come back with it",
            record.old
        ))),
    }
}

async fn check(request: &Request<'_>) -> Outcome {
    let old = &request.old;
    if request.manager == Manager::System && !rustix::process::geteuid().is_root() {
        return Err(Failure::usage(format!("only root may stop `{old}`"))
            .hint("run it with sudo; for a unit of your own add `--user`"));
    }
    if manager::is_active(request.manager, SERVICE).await {
        return Err(Failure::usage(format!("`{SERVICE}` runs already"))
            .hint("stop it first, or add the service to its agent.toml"));
    }
    if !manager::is_active(request.manager, old).await {
        return Err(Failure::usage(format!(
            "`{old}` does not run, so there is nothing to take over"
        ))
        .hint(
            "leave `--take-over` out, and give what is printed to `wayhome service install agent`",
        ));
    }
    Ok(())
}

/// `wayhome service install agent`, which logs in once in the service's sandbox, and starts it.
async fn install(request: &Request<'_>) -> Outcome {
    let failed = |error: &std::io::Error| {
        Failure::new("the agent's service could not be installed").because(error)
    };
    let mut file = tempfile::Builder::new()
        .prefix("agent-")
        .suffix(".toml")
        .tempfile()
        .map_err(|error| failed(&error))?;
    file.write_all(request.text.as_bytes()).map_err(|error| failed(&error))?;
    let mut command = tokio::process::Command::new(program()?);
    command.args(["service", "install", "agent", "--config"]).arg(file.path());
    match (request.manager, &request.runs_as) {
        (Manager::User, _) => drop(command.arg("--user")),
        (Manager::System, Some(user)) => drop(command.args(["--as", user])),
        (Manager::System, None) => {}
    }
    if request.accept_new {
        command.arg("--accept-new");
    }
    let status = command.status().await.map_err(|error| failed(&error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new("the agent's service could not be installed")
        .hint(format!("`{}` runs on, untouched; see above for what is missing", request.old)))
}

/// Waits until the agent has logged in. It cannot have the ports yet.
async fn log_in(record: &Record, signals: &mut Signals) -> Outcome {
    let until = Instant::now() + LOGIN;
    loop {
        let why = match switch::ask(record, Asked::Status).await {
            Ok(snapshot) if snapshot.links.iter().all(|link| link.state == LinkState::Up) => {
                return Ok(());
            }
            Ok(snapshot) => switch::trouble(&snapshot),
            Err(why) => why,
        };
        let untouched = format!("`{}` runs on, untouched", record.old);
        if Instant::now() >= until {
            let seconds = LOGIN.as_secs();
            return Err(Failure::new(format!("the agent did not log in within {seconds} s"))
                .because(&std::io::Error::other(why.to_string()))
                .hint(untouched));
        }
        tokio::select! {
            () = signals.end() => return Err(Failure::new("interrupted").hint(untouched)),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Stops the new service; the old tunnel was not touched.
async fn undo(request: &Request<'_>) {
    let ended = manager::systemctl(request.manager, &["disable", "--now", "--", SERVICE]).await;
    match ended {
        Ok(_) => report::note(format!(
            "`{SERVICE}` is stopped and disabled; `wayhome uninstall` removes its files"
        )),
        Err(why) => report::warning(format!("`{SERVICE}` could not be stopped: {why}")),
    }
}

/// Tells what the switch does, until it has ended. ^C asks it to go back.
async fn watch(manager: Manager, place: &Path, signals: &mut Signals) -> Outcome<u8> {
    let mut told = 0;
    let mut gone_since = None;
    loop {
        let record = Record::read(place)?;
        let (story, end) = record.map(|record| (record.story, record.end)).unwrap_or_default();
        for line in story.iter().skip(told) {
            report::note(line);
        }
        told = story.len();
        if let Some(end) = end {
            if end.code == 0 {
                report::note(end.text);
                return Ok(0);
            }
            return Err(Failure::new(end.text));
        }
        if manager::is_active(manager, SWITCH).await {
            gone_since = None;
        } else if gone_since.get_or_insert_with(Instant::now).elapsed() > GRACE {
            report::warning(format!("`{SWITCH}` has ended without a word; it is put right"));
            switch::settle(place).await?;
        }
        tokio::select! {
            () = signals.end() => {
                report::note("interrupted: it goes back to the old tunnel");
                let _ = manager::systemctl(manager, &["stop", "--no-block", "--", SWITCH]).await;
            }
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn program() -> Outcome<std::path::PathBuf> {
    std::env::current_exe()
        .map_err(|error| Failure::new("this program's own path is not known").because(&error))
}

/// ^C and TERM end the switch; that the terminal vanishes does not.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    _hangup: Signal,
}

impl Signals {
    fn listen() -> Outcome<Self> {
        let failed =
            |error: std::io::Error| Failure::new("signals cannot be received").because(&error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            _hangup: signal(SignalKind::hangup()).map_err(failed)?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
