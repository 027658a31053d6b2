//! `wayhome status`

pub mod gateway;

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use wayhome_core::address::Address;
use wayhome_core::name::Name;
use wayhome_core::service::Target;
use wayhome_core::status::gateway::GatewaySnapshot;
use wayhome_core::status::{
    LinkState, LinkStatus, NativeStatus, ServiceState, ServiceStatus, Snapshot,
};

use crate::agent::control::{self, Asked};
use crate::command::agent::runtime;
use crate::error::{Failure, Outcome, USAGE};
use crate::probe::{self, Wanted};
use crate::{paths, report};

/// How the roads are: for each gateway and service the state, since when, and why.
///
/// "up" means proven, end to end, and when; never that a process runs.
///
/// With --ssh it looks at a road that stock `ssh -R` keeps, from home or from anywhere: wayhome
/// need run nowhere. It logs in with your own ssh, changes nothing, and asks nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome status
  wayhome status --json
  wayhome status --ssh root@203.0.113.10 --port 2222
  wayhome status > /dev/null || echo 'something is not up'")]
pub struct Args {
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
    /// Only the agent with this name.
    #[arg(long)]
    name: Option<Name>,
    /// Ask no agent, but look at a road of stock programs: log in to this gateway, with your own ssh
    #[arg(long, value_name = "GATEWAY", conflicts_with = "name")]
    ssh: Option<Address>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take its text for the command's own")]
    stock: Stock,
}

// With --ssh. (No doc comment: clap would show it.)
#[derive(Debug, clap::Args)]
#[group(requires = "ssh", multiple = true)]
#[allow(missing_docs, reason = "clap would take its text for the command's own")]
struct Stock {
    /// With --ssh: home's port at the gateway
    #[arg(long, default_value_t = 2222, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// With --ssh: the key to log in with
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// With --ssh: this is home, and the port leads here
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<Target>,
    /// With --ssh: home's host key, as `ssh-keygen -lf` shows it (SHA256:…)
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    expect: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    if let Some(gateway) = &args.ssh {
        return look(gateway, args);
    }
    let mut sockets = control::sockets()?;
    if let Some(name) = &args.name {
        let named = control::socket_path(&paths::runtime_dir()?, name);
        if !sockets.contains(&named) {
            return Err(Failure::usage(format!("no agent of yours is named `{name}`"))
                .hint("`wayhome status` shows those that run"));
        }
        sockets = vec![named];
    }
    let runtime = runtime()?;
    let gateway = match args.name {
        Some(_) => None,
        None => runtime.block_on(ask_gateway())?,
    };
    if sockets.is_empty() && gateway.is_none() {
        return Err(control::no_agent());
    }
    let mut snapshots = Vec::new();
    let mut silent = None;
    for socket in &sockets {
        match runtime.block_on(control::ask::<Snapshot>(socket, Asked::Status)) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(error) => silent = Some(unanswered("agent", socket, &error)),
        }
    }
    let all_up = snapshots.iter().all(Snapshot::all_up)
        && gateway.as_ref().is_none_or(|gateway| gateway.grants.error.is_none());
    if !snapshots.is_empty() || gateway.is_some() {
        let text = match (args.json, &gateway) {
            (true, None) => json(&snapshots)?,
            (true, Some(gateway)) => {
                let agents = snapshots.iter().map(Shown::Agent);
                json(&agents.chain([Shown::Gateway(gateway)]).collect::<Vec<_>>())?
            }
            (false, None) => table(&snapshots),
            (false, Some(gateway)) => {
                let agents = table(&snapshots);
                let gap = if agents.is_empty() { "" } else { "\n" };
                agents + gap + &gateway::table(gateway)
            }
        };
        report::print(text).map_err(|error| {
            Failure::usage("the status cannot be written").because(&error).hint(report::ROOM)
        })?;
    }
    // Those that answered are shown; but of all together nothing can be told.
    silent.map_or(Ok(u8::from(!all_up)), Err)
}

/// What runs here, of whichever seat.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Agent(&'a Snapshot),
    Gateway(&'a GatewaySnapshot),
}

/// The gateway that runs on this machine, if one does that answers us.
async fn ask_gateway() -> Outcome<Option<GatewaySnapshot>> {
    // Our own, or the service's: who may not see that one is told so only by the agent's absence.
    let own = paths::runtime_dir()?.join(crate::gateway::SOCKET);
    let service = Path::new(crate::service::gateway::RUNTIME).join(crate::gateway::SOCKET);
    for socket in [own, service] {
        match control::ask(&socket, Asked::Status).await {
            Ok(snapshot) => {
                let stock = probe::stock::listeners().await;
                return Ok(Some(GatewaySnapshot { stock, ..snapshot }));
            }
            Err(error) => match error.kind() {
                // There is none, or one has ended without a word; or it is not ours to ask.
                ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::PermissionDenied => {}
                _ => return Err(unanswered("gateway", &socket, &error)),
            },
        }
    }
    Ok(None)
}

/// Row 1: nothing of wayhome's at either end.
fn look(gateway: &Address, args: &Args) -> Outcome<u8> {
    let wanted = Wanted {
        gateway: gateway.clone(),
        port: args.stock.port,
        identity: args.stock.identity.clone(),
        target: args.stock.target.clone(),
        expect: args.stock.expect.clone(),
    };
    let sight = runtime()?.block_on(probe::look(&wanted))?;
    let text = if args.json { json(&[&sight])? } else { probe::table(&sight) };
    report::print(text).map_err(|error| {
        Failure::usage("the status cannot be written").because(&error).hint(report::ROOM)
    })?;
    Ok(sight.verdict.code())
}

/// A fingerprint, with or without what `ssh-keygen -l` prints around it.
fn fingerprint(text: &str) -> Result<String, String> {
    // SHA-256 has 32 bytes: 43 characters of base64, without what would fill them up.
    let is_whole = |rest: &str| {
        rest.len() == 43
            && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
    };
    let mut words = text.split_whitespace();
    let found = words.find(|word| word.strip_prefix("SHA256:").is_some_and(is_whole));
    found.map(str::to_owned).ok_or_else(|| {
        "a fingerprint is `SHA256:` and 43 characters; \
         `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at home shows it"
            .to_owned()
    })
}

fn unanswered(who: &str, socket: &Path, error: &std::io::Error) -> Failure {
    debug_assert_eq!(USAGE, 2, "`cannot tell` is exit code 2");
    Failure::usage(format!("the {who} at `{}` does not answer", socket.display()))
        .because(error)
        .hint("it may have ended without a word; start it again")
}

/// One agent is one object; several are an array only if a person runs several.
fn json<T: Serialize>(snapshots: &[T]) -> Outcome<String> {
    let text = match snapshots {
        [one] => serde_json::to_string_pretty(one),
        many => serde_json::to_string_pretty(many),
    };
    text.map(|text| text + "\n")
        .map_err(|error| Failure::new("the status cannot be written as JSON").because(&error))
}

/// The roads, for a person.
pub fn table(snapshots: &[Snapshot]) -> String {
    let mut out = String::new();
    for snapshot in snapshots {
        if !out.is_empty() {
            out.push('\n');
        }
        let running = span(snapshot.running_ms);
        let _ = writeln!(out, "{} (agent {}, running for {running})", snapshot.name, snapshot.pid);
        if let Some(configuration) = &snapshot.configuration
            && let Some(error) = &configuration.error
        {
            let wrong = paint("the configuration was not taken over", RED);
            let loaded = span(configuration.loaded_ms);
            let _ = writeln!(out, "{wrong}; the one of {loaded} ago runs on");
            out.push_str(&report::paragraph(MARGIN, MARGIN.len(), error));
        }
        for link in &snapshot.links {
            write_link(&mut out, link);
        }
        if let Some(native) = &snapshot.native {
            write_native(&mut out, native);
        }
    }
    out
}

/// Who may enter over native links, and who has.
fn write_native(out: &mut String, native: &NativeStatus) {
    out.push_str("\nover native links\n");
    match &native.grants {
        Some(grants) => gateway::write_grants(out, grants),
        None => out.push_str("  no grants: nobody may enter but this home itself\n"),
    }
    let streams = native.streams.iter().map(|(service, count)| format!("{service} {count}"));
    let streams = streams.collect::<Vec<_>>().join(", ");
    if !streams.is_empty() {
        let _ = writeln!(out, "  streams: {streams}");
    }
}

fn write_link(out: &mut String, link: &LinkStatus) {
    let state = match link.state {
        LinkState::Up => paint("up", GREEN),
        LinkState::Suspect => paint("suspect", YELLOW),
        LinkState::Dialling => paint("dialling", YELLOW),
        LinkState::Down => paint("down", RED),
        LinkState::Halted => paint("halted", RED),
        LinkState::Draining => paint("ending", YELLOW),
    };
    let mut line = format!("{state} for {}", span(link.since_ms));
    if let Some(round_trip) = link.round_trip_ms {
        let _ = write!(line, ", round trip {round_trip:.1} ms");
    }
    let _ = write!(line, ", reconnects {}", link.reconnects);
    if link.attempt > 0 {
        let _ = write!(line, ", attempt {}", link.attempt);
    }
    if let Some(wait) = link.retry_in_ms {
        let _ = write!(line, ", next in {}", span(wait));
    }
    out.push('\n');
    out.push_str(&report::paragraph(&format!("{}  ", link.gateway), MARGIN.len(), &line));
    if let Some(finding) = &link.cause {
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &finding.text));
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &finding.remedy));
    }
    if let Some(finding) = &link.alarm {
        let alarm = paint(&finding.text, RED);
        let _ = writeln!(out, "{MARGIN}{alarm}");
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &finding.remedy));
    }
    if let Some(finding) = &link.no_hold {
        let _ = writeln!(out, "    no hold: {}\n    {}", finding.text, finding.remedy);
    }
    let name_width = link.services.iter().map(|s| s.service.name.as_str().len()).max().unwrap_or(0);
    let is_native = link.gateway.starts_with("wayhome://");
    let targets = link.services.iter().map(|s| s.service.target.to_string().len());
    let target_width = targets.max().unwrap_or(0);
    for service in &link.services {
        write_service(out, service, name_width, target_width);
        if let (true, Some(port)) = (is_native, service.service.port) {
            let exposed = format!(
                "whoever is on that machine, user or program, reaches {} by its port {port}",
                service.service.name
            );
            out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &exposed));
        }
    }
}

fn write_service(out: &mut String, status: &ServiceStatus, name_width: usize, target_width: usize) {
    let service = &status.service;
    let (state, colour) = match status.state {
        ServiceState::Up => ("up", GREEN),
        ServiceState::Opening => ("opening", YELLOW),
        ServiceState::Down => ("down", RED),
        ServiceState::Unproven => ("unproven", RED),
        ServiceState::Blocked => ("blocked", RED),
        ServiceState::Halted => ("halted", RED),
    };
    let state = paint(&format!("{state:<8}"), colour);
    let _ = write!(
        out,
        "  {:name_width$}  {:>5} → {:target_width$}  {state} for {}",
        service.name,
        service.port.map(|port| port.to_string()).unwrap_or_default(),
        service.target.to_string(),
        span(status.since_ms)
    );
    match status.last_proof_ms {
        Some(ago) => {
            let _ = writeln!(out, ", proven {} ago ({})", span(ago), service.proof);
        }
        None => out.push_str(", never proven\n"),
    }
    if let Some(finding) = &status.cause {
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &finding.text));
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &finding.remedy));
    }
}

/// Before a cause and its remedy.
const MARGIN: &str = "    ";

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

fn paint(text: &str, colour: &str) -> String {
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
}

/// A span in its two largest units.
pub fn span(millis: u64) -> String {
    let whole = Duration::from_secs(millis / 1000);
    if millis < 1000 {
        return format!("{:.1}s", millis as f64 / 1000.0);
    }
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
