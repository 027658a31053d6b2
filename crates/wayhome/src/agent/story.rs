//! A link's story for whoever follows the log: a sentence for each turn, with its facts as fields.
//!
//! Every line stands for itself: what happened at which gateway, and after an outage how long it
//! was, why, and how many attempts it took. The fields are for JSON and the journal; their names
//! are promised to scripts.

use std::time::Duration;

use tracing::Level;
use wayhome_core::health::{Cause, Fault, Retry};
use wayhome_core::link::Note;
use wayhome_core::service::Service;
use wayhome_core::status::millis;

/// Tells a turn of a link's story to the log. `service` finds a service by its number.
pub fn tell<'a>(gateway: &str, service: impl Fn(usize) -> Option<&'a Service>, note: &'a Note) {
    let Some(line) = line(service, note) else { return };
    // A macro for each level: tracing wants it to be known when the program is built.
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!(
                $level,
                event = line.event,
                gateway,
                service = line.service.map(|service| service.name.as_str()),
                port = line.service.and_then(|service| service.port),
                cause.kind = line.cause.map(Cause::kind),
                fault = line.cause.map(|cause| word(cause.fault())),
                after_ms = line.after.map(millis),
                attempt = line.attempts,
                round_trip_ms = line.round_trip.map(|span| span.as_secs_f64() * 1000.0),
                process = line.process,
                "{gateway}: {}",
                line.text
            )
        };
    }
    match line.level {
        Level::ERROR => tell!(Level::ERROR),
        Level::WARN => tell!(Level::WARN),
        _ => tell!(Level::INFO),
    }
}

/// One line of the log.
#[derive(Debug)]
struct Line<'a> {
    level: Level,
    /// What happened, in one word, for scripts.
    event: &'static str,
    text: String,
    service: Option<&'a Service>,
    cause: Option<&'a Cause>,
    after: Option<Duration>,
    attempts: Option<u32>,
    round_trip: Option<Duration>,
    process: Option<u32>,
}

impl<'a> Line<'a> {
    fn new(level: Level, event: &'static str, text: String) -> Self {
        Self {
            level,
            event,
            text,
            service: None,
            cause: None,
            after: None,
            attempts: None,
            round_trip: None,
            process: None,
        }
    }

    /// Why a road is not up, with what to do.
    fn trouble(level: Level, event: &'static str, what: &str, cause: &'a Cause) -> Self {
        let text = format!("{what}: {cause}; {}", cause.remedy());
        Self { cause: Some(cause), ..Self::new(level, event, text) }
    }
}

/// What a note comes to. `None` for a service that is no longer among ours.
fn line<'a>(service: impl Fn(usize) -> Option<&'a Service>, note: &'a Note) -> Option<Line<'a>> {
    let named = |number: usize| {
        let service = service(number)?;
        Some((service, service.label()))
    };
    let line = match note {
        Note::LinkUp { after, why, attempts } => Line {
            cause: why.as_ref(),
            after: *after,
            attempts: Some(*attempts),
            ..Line::new(Level::INFO, "connected", connected(*after, why.as_ref(), *attempts))
        },
        Note::Suspect => {
            Line::new(Level::WARN, "suspect", "no answer; looking for a fresh way".into())
        }
        Note::Recovered => {
            Line::new(Level::INFO, "recovered", "the old connection answers again".into())
        }
        Note::LinkDown(cause) => Line::trouble(Level::WARN, "down", "down", cause),
        Note::LinkHalted(cause) => Line::trouble(Level::ERROR, "halted", "halted", cause),
        Note::Alarm(cause) => Line::trouble(Level::ERROR, "alarm", "alarm", cause),
        Note::NoHold(detail) => Line::new(
            Level::WARN,
            "no-hold",
            format!(
                "this login may forward, but not run the hold ({detail}); old sessions cannot be \
                 ended, and ssh's own keepalives serve"
            ),
        ),
        Note::ServiceUp { service, after, round_trip } => {
            let (service, name) = named(*service)?;
            let mut text = format!("{name} is up: proven");
            if let Some(after) = after {
                text += &format!(", after {}", seconds(*after));
            }
            if let Some(round_trip) = round_trip {
                text += &format!(", round trip {:.1} ms", round_trip.as_secs_f64() * 1000.0);
            }
            Line {
                service: Some(service),
                after: *after,
                round_trip: *round_trip,
                ..Line::new(Level::INFO, "proven", text)
            }
        }
        Note::ServiceTrouble { service, cause } => {
            let (service, name) = named(*service)?;
            // What only a person can mend is heard also by who asked for errors alone.
            let level = if cause.retry() == Retry::Halt { Level::ERROR } else { Level::WARN };
            let what = format!("{name} is not up");
            Line { service: Some(service), ..Line::trouble(level, "not-up", &what, cause) }
        }
        Note::TookOver { service, session } => {
            let (service, name) = named(*service)?;
            let text = format!("{name}: ended our old session (process {})", session.pid);
            Line {
                service: Some(service),
                process: Some(session.pid),
                ..Line::new(Level::INFO, "took-over", text)
            }
        }
    };
    Some(line)
}

/// The first connection, or the end of an outage: how long, at which attempt, and why it was.
fn connected(after: Option<Duration>, why: Option<&Cause>, attempts: u32) -> String {
    let mut text = String::from("connected");
    if let Some(after) = after {
        text += &format!(" again after {}", seconds(after));
    }
    if after.is_some() || attempts > 1 {
        text += &format!(", at attempt {attempts}");
    }
    if let Some(why) = why {
        text += &format!("; until then {why}");
    }
    text
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}

fn word(fault: Fault) -> &'static str {
    match fault {
        Fault::Home => "home",
        Fault::Network => "network",
        Fault::Gateway => "gateway",
        Fault::Target => "target",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging;
    use wayhome_core::link::Session;

    fn services() -> Vec<Service> {
        let forward = |text| Service::from_forward(text).unwrap();
        vec![forward("2222:localhost:22"), forward("8080:localhost:80")]
    }

    fn lost() -> Cause {
        Cause::ConnectionLost { detail: "Connection reset by peer".into() }
    }

    fn text(note: &Note) -> String {
        let services = services();
        line(|number| services.get(number), note).unwrap().text
    }

    #[test]
    fn a_reconnect_is_told_in_one_line() {
        let after = Some(Duration::from_millis(5_240));
        assert_eq!(
            text(&Note::LinkUp { after, why: Some(lost()), attempts: 2 }),
            "connected again after 5.24 s, at attempt 2; \
             until then the connection was lost (Connection reset by peer)"
        );
        let round_trip = Some(Duration::from_micros(20_400));
        assert_eq!(
            text(&Note::ServiceUp { service: 0, after, round_trip }),
            "ssh (port 2222) is up: proven, after 5.24 s, round trip 20.4 ms"
        );
    }

    #[test]
    fn a_first_connection_says_no_more_than_there_is() {
        assert_eq!(text(&Note::LinkUp { after: None, why: None, attempts: 1 }), "connected");
        let why = Some(Cause::ConnectionRefused);
        assert_eq!(
            text(&Note::LinkUp { after: None, why, attempts: 3 }),
            "connected, at attempt 3; \
             until then the gateway refuses connections on its SSH port"
        );
        assert_eq!(
            text(&Note::ServiceUp { service: 1, after: None, round_trip: None }),
            "port-8080 (port 8080) is up: proven"
        );
    }

    #[test]
    fn trouble_has_its_remedy_and_what_a_person_must_mend_is_an_error() {
        let cause = Cause::AnotherHome { fingerprint: "SHA256:x".into() };
        for (note, level, remedy) in [
            (Note::LinkDown(lost()), Level::WARN, "nothing to do"),
            (Note::LinkHalted(Cause::HostKeyChanged), Level::ERROR, "reinstalled"),
            (Note::ServiceTrouble { service: 0, cause }, Level::ERROR, "another port"),
            (
                Note::ServiceTrouble { service: 0, cause: Cause::TargetSilent },
                Level::WARN,
                "at home",
            ),
        ] {
            let services = services();
            let line = line(|number| services.get(number), &note).unwrap();
            assert_eq!(line.level, level, "{note:?}");
            assert!(line.text.contains(remedy), "{}", line.text);
        }
    }

    #[test]
    fn a_service_that_is_gone_is_not_spoken_of() {
        let note = Note::ServiceUp { service: 2, after: None, round_trip: None };
        assert!(line(|_| None, &note).is_none());
    }

    #[test]
    fn facts_are_fields() {
        let gateway = "root@203.0.113.10";
        let session = Session { pid: 86, start: 1, boot: "b".into() };
        let after = Some(Duration::from_millis(520));
        let services = services();
        let service = |number| services.get(number);
        let up = Note::LinkUp { after, why: Some(lost()), attempts: 2 };
        let ended = Note::TookOver { service: 0, session };
        let log = logging::tests::json(|| {
            tell(gateway, service, &up);
            tell(gateway, service, &ended);
        });
        let said = &log[0];
        assert_eq!(said["level"], "INFO");
        assert_eq!(said["event"], "connected");
        assert_eq!(said["gateway"], "root@203.0.113.10");
        assert_eq!(said["cause.kind"], "connection-lost");
        assert_eq!(said["fault"], "network");
        assert_eq!(said["after_ms"], 520);
        assert_eq!(said["attempt"], 2);
        assert!(
            said["message"].as_str().unwrap().starts_with("root@203.0.113.10: connected again")
        );
        assert!(said.get("service").is_none() && said.get("round_trip_ms").is_none());
        let said = &log[1];
        assert_eq!(said["service"], "ssh");
        assert_eq!(said["port"], 2222);
        assert_eq!(said["process"], 86);
    }
}
