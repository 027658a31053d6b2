//! What was seen, for a person.

use std::fmt::Write;
use std::time::Duration;

use super::sight::{Behind, Facts, Holder, Sight, Verdict, Whose};
use crate::report;

/// Before a remark and its remedy.
const MARGIN: &str = "    ";

/// Writes it.
pub fn table(sight: &Sight) -> String {
    let facts = &sight.facts;
    let (word, colour) = match sight.verdict {
        Verdict::Proven => ("up", "32"),
        Verdict::NotProven => ("not up", "31"),
        Verdict::Unknown => ("cannot tell", "33"),
    };
    let mut out =
        format!("{} port {}  \u{1b}[{colour}m{word}\u{1b}[0m\n", facts.gateway, facts.port);
    for (what, seen) in rows(facts) {
        let _ = writeln!(out, "  {what:<9}  {seen}");
    }
    for remark in &sight.remarks {
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &remark.text));
        out.push_str(&report::paragraph(MARGIN, MARGIN.len(), &remark.remedy));
    }
    out
}

fn rows(facts: &Facts) -> Vec<(&'static str, String)> {
    if facts.refused.is_some() {
        return vec![("login", "refused".to_owned())];
    }
    let mut rows = vec![("login", "accepted".to_owned())];
    let not_checked = || {
        let why = facts.unseen.as_deref().unwrap_or("this login may not see it");
        format!("not checked ({why})")
    };
    rows.push((
        "listens",
        match &facts.listens {
            None => not_checked(),
            Some(addresses) if addresses.is_empty() => "nowhere".to_owned(),
            Some(addresses) => addresses.join(", "),
        },
    ));
    rows.push(("held by", holder(&facts.holder).unwrap_or_else(not_checked)));
    rows.push(("behind it", behind(facts)));
    if let Some(interval) = facts.sshd.client_alive_interval {
        let count = facts.sshd.client_alive_count_max.unwrap_or_default();
        let gateway_ports = facts.sshd.gateway_ports.as_deref().unwrap_or("not known");
        rows.push((
            "its sshd",
            format!("ClientAlive {interval} s × {count}, GatewayPorts {gateway_ports}"),
        ));
    }
    rows
}

fn holder(holder: &Holder) -> Option<String> {
    Some(match holder {
        Holder::Nobody => "nobody".to_owned(),
        Holder::Session { pid, title, since, from } => {
            let mut text = format!("an ssh session (process {pid}");
            if let Some(title) = title {
                let _ = write!(text, ", `{title}`");
            }
            text.push(')');
            if let Some(from) = from {
                let _ = write!(text, " from {from}");
            }
            if let Some(since) = since {
                let since = Duration::from_secs(*since);
                let _ = write!(text, " for {}", humantime::format_duration(since));
            }
            text
        }
        Holder::Program { pid, name } => format!("the program `{name}` (process {pid})"),
        Holder::Foreign { uid } => format!("the gateway's user {uid}"),
        Holder::Unknown => return None,
    })
}

fn behind(facts: &Facts) -> String {
    match &facts.behind {
        Behind::HostKey { fingerprint, whose, .. } => {
            let target = facts.target.as_deref().unwrap_or_default();
            let whose = match whose {
                Whose::Target => &format!("the very key of {target} here"),
                Whose::Expected => "the key that you expect",
                Whose::Known => "the key that your known_hosts have for this port",
                Whose::Another => "not the key that was known",
                Whose::Nobodys => "a key that is not known here",
            };
            format!("{fingerprint}, {whose}")
        }
        Behind::NotOpened => "not opened by the gateway".to_owned(),
        Behind::Closed => "closes at once".to_owned(),
        Behind::Silent => "silent".to_owned(),
        Behind::Other { detail } => format!("no SSH server ({detail})"),
        Behind::NotChecked => "not checked".to_owned(),
    }
}
