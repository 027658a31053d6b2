//! A gateway's status, for a person.

use std::fmt::Write;

use wayhome_core::status::gateway::{
    Behind, GatewaySnapshot, GrantsStatus, HomeStatus, LoadStatus, OnlineStatus, RefusalStatus,
    StockStatus, StrangersStatus, StreamStatus,
};

use super::{GREEN, MARGIN, RED, YELLOW, paint, span};
use crate::report;

/// All of it.
pub fn table(snapshot: &GatewaySnapshot) -> String {
    let mut out = String::new();
    let running = span(snapshot.running_ms);
    let _ = writeln!(out, "gateway (process {}, running for {running})", snapshot.pid);
    let _ = writeln!(out, "  listens on {}", snapshot.listen.join(", "));
    let _ = writeln!(out, "  key {}", snapshot.key);
    write_grants(&mut out, &snapshot.grants);
    write_load(&mut out, &snapshot.load);
    if snapshot.homes.is_empty() {
        out.push_str("\nno home has been here yet\n");
    }
    for home in &snapshot.homes {
        write_home(&mut out, home);
    }
    if !snapshot.streams.is_empty() {
        out.push_str("\nstreams\n");
    }
    for stream in &snapshot.streams {
        write_stream(&mut out, stream);
    }
    if !snapshot.stock.is_empty() {
        out.push_str("\nstock listeners (ssh -R, at this machine's own sshd)\n");
    }
    for listener in &snapshot.stock {
        write_stock(&mut out, listener);
    }
    if !snapshot.refusals.is_empty() {
        out.push_str("\nrefused lately\n");
    }
    for refusal in snapshot.refusals.iter().take(SHOWN) {
        write_refusal(&mut out, refusal);
    }
    out.push('\n');
    out.push_str(&strangers(&snapshot.strangers));
    out
}

/// Who may do what, and what is wrong with that.
pub fn write_grants(out: &mut String, grants: &GrantsStatus) {
    let read = span(grants.read_ms);
    let line = format!("  grants {} ({}, read {read} ago)", grants.file, grants.count);
    out.push_str(&report::paragraph("", MARGIN.len(), &line));
    if let Some(error) = &grants.error {
        let _ = writeln!(out, "    {}", paint("nobody new is let in:", RED));
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), error));
    }
    for why in &grants.passed_over {
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &paint(why, YELLOW)));
    }
}

/// How much it carries, and what is wrong with that.
fn write_load(out: &mut String, load: &LoadStatus) {
    let LoadStatus { descriptors, most, late_ms, strain } = load;
    let _ = writeln!(out, "  {descriptors} of {most} descriptors in use");
    let Some(strain) = strain else { return };
    let why = format!("no new stream is taken in: {strain} ({late_ms} ms late)");
    out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &paint(&why, RED)));
    let remedy = "raise `LimitNOFILE` of the service or `ulimit -n`; or have a second gateway";
    out.push_str(&report::paragraph(MARGIN, MARGIN.len(), remedy));
}

/// So many refusals are shown to a person; `--json` has all that are kept.
const SHOWN: usize = 8;

fn write_home(out: &mut String, home: &HomeStatus) {
    out.push('\n');
    let Some(online) = &home.online else {
        let offline = paint("offline", RED);
        let _ =
            writeln!(out, "{}  {offline}, last seen {} ago", home.name, span(home.last_seen_ms));
        return;
    };
    let state = paint("online", GREEN);
    let OnlineStatus { since_ms, from, waiting, clients, software, .. } = online;
    let mut line = format!("{state} for {}, from {from}", span(*since_ms));
    if !software.as_str().is_empty() {
        let _ = write!(line, ", {software}");
    }
    let _ = write!(line, ", {waiting} waiting, streams {}", home.streams);
    if *clients > 0 {
        let _ = write!(line, ", {clients} clients wait for it");
    }
    out.push_str(&report::paragraph(&format!("{}  ", home.name), MARGIN.len(), &line));
    let width = online.services.iter().map(|service| service.name.as_str().len()).max();
    for service in &online.services {
        let proven = match service.proven_ms {
            Some(ago) => format!("proven {} ago", span(ago)),
            None => "not proven".to_owned(),
        };
        let port = match service.port {
            Some(port) => format!(", at 127.0.0.1:{port}"),
            None => String::new(),
        };
        let width = width.unwrap_or(0);
        let _ = writeln!(out, "  {:width$}  {proven}{port}", service.name);
    }
}

fn write_stream(out: &mut String, stream: &StreamStatus) {
    let key = stream.key.to_string();
    let by_port = stream.port.map(|port| format!("port {port}"));
    let who = by_port.as_ref().or(stream.grant.as_ref()).unwrap_or(&key);
    let line = format!(
        "{} to {}, from {}, for {}: {} there ({}/s), {} back ({}/s)",
        who,
        stream.home,
        stream.from,
        span(stream.age_ms),
        bytes(stream.there),
        bytes(stream.there_rate),
        bytes(stream.back),
        bytes(stream.back_rate),
    );
    out.push_str(&report::paragraph("  ", MARGIN.len(), &line));
}

fn write_stock(out: &mut String, listener: &StockStatus) {
    let mut line = listener.addresses.join(", ");
    if listener.is_public {
        let _ = write!(line, " ({})", paint("public", YELLOW));
    }
    let _ = write!(line, ": a session of {}", listener.account);
    match listener.pid {
        Some(pid) => {
            let _ = write!(line, " (process {pid})");
        }
        None => line.push_str(", as it seems: only root sees which"),
    }
    if let Some(from) = &listener.from {
        let _ = write!(line, ", from {from}");
    }
    let behind = match &listener.behind {
        Behind::Host { fingerprint, .. } => {
            format!("{}, {fingerprint}", paint("a host answers", GREEN))
        }
        Behind::Other => format!("{}, and is no SSH", paint("something answers", GREEN)),
        Behind::Nothing => paint("nothing listens at its target", RED),
        Behind::Silent => paint("nobody answers", RED),
    };
    let _ = write!(line, "; {behind}");
    if let Some(ago) = listener.seen_ms.filter(|ago| *ago >= 1000) {
        let _ = write!(line, " (seen {} ago)", span(ago));
    }
    out.push_str(&report::paragraph("  ", MARGIN.len(), &line));
}

fn write_refusal(out: &mut String, refusal: &RefusalStatus) {
    let key = refusal.key.to_string();
    let who = refusal.grant.as_ref().unwrap_or(&key);
    let mut line = format!("{} ago, {who}, from {}", span(refusal.ago_ms), refusal.from);
    if let Some(home) = &refusal.home {
        let _ = write!(line, ", for {home}");
    }
    let _ = write!(line, ": {}", refusal.reason);
    if !refusal.detail.as_str().is_empty() {
        let _ = write!(line, " ({})", refusal.detail);
    }
    out.push_str(&report::paragraph("  ", MARGIN.len(), &line));
}

fn strangers(strangers: &StrangersStatus) -> String {
    let StrangersStatus { half_open, slow, evicted, shed, gone, malformed } = strangers;
    let shed = match shed {
        0 => String::new(),
        shed => format!(", {shed} found no room"),
    };
    format!(
        "strangers: {half_open} now; {gone} hung up, {slow} took too long, {evicted} made room{shed}, \
         {malformed} spoke otherwise\n"
    )
}

/// A number of bytes, in the unit that reads best.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut shown = format!("{count} B");
    for unit in UNITS {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        shown = format!("{value:.1} {unit}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (5_000_000_000, "5.0 GB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
