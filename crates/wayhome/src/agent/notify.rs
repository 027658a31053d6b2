//! What the agent tells the service manager that started it (sd_notify(3)): that it is ready, how
//! the roads are in a sentence, and that its loop still turns.
//!
//! The watchdog is fed with a snapshot in the hand, from the agent's own loop. A snapshot has an
//! answer of each link's task in it, so that neither a stuck loop nor a stuck link is kept alive by
//! a timer that knows nothing of them. Without a service manager nothing is told to anybody.

use std::fmt::Write;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use wayhome_core::health::Detail;
use wayhome_core::status::{LinkState, LinkStatus, ServiceState, Snapshot};

/// How old the sentence in `systemctl status` may be while all is up: as old as a heartbeat.
const AT_REST: Duration = Duration::from_secs(5);

/// The same while something is not up, and a person may be waiting for it.
const IN_TROUBLE: Duration = Duration::from_secs(1);

/// How many times the watchdog is fed within its span: one that comes late must not be the end.
const FEEDINGS: u32 = 3;

/// Whether a service manager waits to hear from this process.
pub fn is_expected() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Manager {
    is_there: bool,
    watchdog: Option<Duration>,
    next: Instant,
    said: String,
}

impl Manager {
    /// The one that started this process.
    pub fn of_environment() -> Self {
        Self {
            is_there: is_expected(),
            watchdog: sd_notify::watchdog_enabled(),
            next: Instant::now(),
            said: String::new(),
        }
    }

    /// The configuration is loaded and the loop turns, with a road or without; also after a reload.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read again; [`Manager::ready`] says when that is over.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The agent ends because it was told to.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    }

    /// Waits until it is time for [`Manager::alive`].
    pub async fn due(&self) {
        if self.is_there {
            tokio::time::sleep_until(self.next.into()).await;
        } else {
            std::future::pending().await
        }
    }

    /// Feeds the watchdog, and says how the roads are. `links` is how many there are: one that has
    /// ended has no status, and an agent without it must not live on as if nothing had happened.
    pub fn alive(&mut self, snapshot: &Snapshot, links: usize) {
        let rest = if snapshot.all_up() { AT_REST } else { IN_TROUBLE };
        self.lives(all_answered(snapshot, links), sentence(snapshot), rest);
    }

    /// The same for a gateway, whose loop turns and whose book could be opened.
    pub fn gateway_lives(&mut self, sentence: String) {
        self.lives(true, sentence, AT_REST);
    }

    fn lives(&mut self, is_well: bool, sentence: String, rest: Duration) {
        let feeding = self.watchdog.map_or(AT_REST, |span| span / FEEDINGS);
        self.next = Instant::now() + rest.min(feeding);
        let mut states = Vec::new();
        if is_well {
            states.push(NotifyState::Watchdog);
        }
        if sentence != self.said {
            states.push(NotifyState::Status(&sentence));
        }
        if !states.is_empty() {
            self.tell(&states);
        }
        self.said = sentence;
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!("the service manager cannot be told {states:?}: {error}");
        }
    }
}

/// Whether each link has an answer in the snapshot.
fn all_answered(snapshot: &Snapshot, links: usize) -> bool {
    snapshot.links.len() == links
}

/// How the roads are, in one short line without anything in it that a terminal could take amiss.
pub fn sentence(snapshot: &Snapshot) -> String {
    let up = snapshot.links.iter().filter(|link| link.state == LinkState::Up).count();
    let all = snapshot.links.len();
    let mut text = format!("{}: {up} of {all} gateway{} up", snapshot.name, plural(all));
    if snapshot.all_up() {
        let proven = snapshot.links.iter().map(|link| link.services.len()).sum();
        let _ = write!(text, ", {proven} service{} proven", plural(proven));
    }
    if snapshot.configuration.as_ref().is_some_and(|file| file.error.is_some()) {
        text.push_str("; the last edit of the configuration was not taken over");
    }
    for link in &snapshot.links {
        if let Some(alarm) = &link.alarm {
            let _ = write!(text, "; {}: {}", link.gateway, alarm.text);
        }
        match link.state {
            LinkState::Up | LinkState::Suspect => trouble(&mut text, link),
            LinkState::Dialling | LinkState::Down | LinkState::Draining => {
                lost(&mut text, link, "")
            }
            LinkState::Halted => lost(&mut text, link, "halted: "),
        }
    }
    // Addresses are the configuration's and causes may quote a stranger.
    Detail::new(&text).to_string()
}

/// Says why a link is not up.
fn lost(text: &mut String, link: &LinkStatus, how: &str) {
    let why = match &link.cause {
        Some(finding) => finding.text.as_str(),
        None => "connecting",
    };
    let _ = write!(text, "; {}: {how}{why}", link.gateway);
}

/// Says which services of a link are not up.
fn trouble(text: &mut String, link: &LinkStatus) {
    if link.state == LinkState::Suspect {
        let _ = write!(text, "; {}: the answer is overdue", link.gateway);
    }
    for service in link.services.iter().filter(|service| service.state != ServiceState::Up) {
        let why = match &service.cause {
            Some(finding) => finding.text.as_str(),
            None => "opening",
        };
        let _ = write!(text, "; {}: {}: {why}", link.gateway, service.service.label());
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayhome_core::health::Cause;
    use wayhome_core::service::Service;
    use wayhome_core::status::{Finding, ServiceStatus};

    fn service(forward: &str, state: ServiceState, cause: Option<Cause>) -> ServiceStatus {
        ServiceStatus {
            service: Service::from_forward(forward).unwrap(),
            state,
            since_ms: 0,
            cause: cause.as_ref().map(Finding::from),
            last_proof_ms: None,
            host_key: None,
        }
    }

    fn link(state: LinkState, cause: Option<Cause>, services: Vec<ServiceStatus>) -> LinkStatus {
        LinkStatus {
            gateway: "root@203.0.113.10".into(),
            state,
            since_ms: 0,
            cause: cause.as_ref().map(Finding::from),
            alarm: None,
            attempt: 0,
            retry_in_ms: None,
            round_trip_ms: None,
            reconnects: 0,
            hold: true,
            no_hold: None,
            services,
        }
    }

    fn snapshot(links: Vec<LinkStatus>) -> Snapshot {
        Snapshot {
            version: Snapshot::VERSION,
            name: "home-ubuntu".parse().unwrap(),
            pid: 1,
            running_ms: 0,
            configuration: None,
            links,
            native: None,
        }
    }

    fn up() -> LinkStatus {
        link(LinkState::Up, None, vec![service("2222:localhost:22", ServiceState::Up, None)])
    }

    #[test]
    fn says_how_the_roads_are() {
        let said = |links| sentence(&snapshot(links));
        assert_eq!(said(vec![up()]), "home-ubuntu: 1 of 1 gateway up, 1 service proven");
        assert_eq!(said(vec![up(), up()]), "home-ubuntu: 2 of 2 gateways up, 2 services proven");
        let refused = Cause::KeyRefused { detail: "Permission denied".into() };
        assert_eq!(
            said(vec![up(), link(LinkState::Halted, Some(refused), vec![])]),
            "home-ubuntu: 1 of 2 gateways up; root@203.0.113.10: halted: the gateway refuses this \
             key (Permission denied)"
        );
        assert_eq!(
            said(vec![link(LinkState::Down, None, vec![])]),
            "home-ubuntu: 0 of 1 gateway up; root@203.0.113.10: connecting"
        );
        let web = service("8080:localhost:80", ServiceState::Unproven, Some(Cause::TargetRefused));
        let ssh = service("2222:localhost:22", ServiceState::Up, None);
        assert_eq!(
            said(vec![link(LinkState::Up, None, vec![ssh, web])]),
            "home-ubuntu: 1 of 1 gateway up; root@203.0.113.10: port-8080 (port 8080): nothing \
             listens at the target"
        );
    }

    #[test]
    fn a_link_that_has_ended_does_not_feed_the_watchdog() {
        assert!(all_answered(&snapshot(vec![up(), up()]), 2));
        assert!(!all_answered(&snapshot(vec![up()]), 2));
    }

    #[test]
    fn a_strangers_words_are_bounded_and_have_no_controls() {
        let rude = "\u{1b}[2J\nREADY=1\n".repeat(100);
        let cause = Cause::SshFailed { detail: rude.as_str().into() };
        let mut link = link(LinkState::Down, Some(cause), vec![]);
        link.gateway = format!("root@{rude}");
        let said = sentence(&snapshot(vec![link.clone(), link]));
        assert!(said.chars().count() <= 301, "{said}");
        assert!(!said.chars().any(char::is_control), "{said}");
    }
}
