//! Is the other end still there? Heartbeats whose deadline comes from the measured round trip.

use core::time::Duration;

use crate::time::Time;

/// No answer is late before this, however short the round trip: a loaded machine pauses that long.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// After a change of the network the question is urgent, and asking costs one small packet.
const LEAST_URGENT_PATIENCE: Duration = Duration::from_millis(200);

/// How long to wait for the first answer, before any round trip was measured.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(3);

/// The heartbeats of one connection.
///
/// At most one is outstanding: the road below is a reliable stream, on which a second ping would
/// only stand in line behind the first.
#[derive(Clone, Debug)]
pub struct Liveness {
    interval: Duration,
    round_trip: Option<RoundTrip>,
    outstanding: Option<Outstanding>,
    next_ping: Time,
    sequence: u64,
    /// When the last ping that was answered had been sent.
    answered: Option<Time>,
    /// Somebody wants an answer to a ping that is sent from now on.
    wanted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    sequence: u64,
    sent: Time,
    deadline: Time,
}

/// The smoothed round trip and its variation, as RFC 6298 keeps them.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
}

impl Liveness {
    /// Heartbeats every `interval`, the first of them at `now`.
    pub fn new(interval: Duration, now: Time) -> Self {
        Self {
            interval,
            round_trip: None,
            outstanding: None,
            next_ping: now,
            sequence: 0,
            answered: None,
            wanted: false,
        }
    }

    /// The number of the ping to send, if one is due.
    pub fn ping_due(&mut self, now: Time) -> Option<u64> {
        if self.outstanding.is_some() || now < self.next_ping {
            return None;
        }
        Some(self.send(now, self.patience()))
    }

    /// Asks at once, with little patience: the network has changed. Gives the number of a ping to
    /// send, or only shortens the wait for the one that is out.
    pub fn hurry(&mut self, now: Time) -> Option<u64> {
        let patience = match self.round_trip {
            Some(measured) => measured.patience().clamp(LEAST_URGENT_PATIENCE, LEAST_PATIENCE),
            None => LEAST_PATIENCE,
        };
        match &mut self.outstanding {
            Some(ping) => {
                ping.deadline = ping.deadline.min(now + patience);
                None
            }
            None => Some(self.send(now, patience)),
        }
    }

    /// Asks out of turn, with the usual patience: at once, or as soon as the ping that is out has
    /// been answered.
    pub fn ask(&mut self, now: Time) {
        if self.outstanding.is_some() {
            self.wanted = true;
        } else {
            self.next_ping = now;
        }
    }

    /// Whether a ping that was sent at `since` or later has been answered.
    pub fn answered_since(&self, since: Time) -> bool {
        self.answered.is_some_and(|sent| sent >= since)
    }

    /// Takes an answer in. `false` if it answers nothing that is outstanding.
    pub fn pong(&mut self, sequence: u64, now: Time) -> bool {
        let Some(ping) = self.outstanding.filter(|ping| ping.sequence == sequence) else {
            return false;
        };
        self.outstanding = None;
        self.answered = Some(ping.sent);
        let wanted = core::mem::take(&mut self.wanted);
        self.next_ping = if wanted { now } else { now + self.interval };
        let sample = now.since(ping.sent);
        self.round_trip = Some(match self.round_trip {
            None => RoundTrip { smoothed: sample, variation: sample / 2 },
            Some(old) => old.with(sample),
        });
        true
    }

    /// Whether an answer is overdue.
    pub fn is_late(&self, now: Time) -> bool {
        self.outstanding.is_some_and(|ping| now >= ping.deadline)
    }

    /// Grants the outstanding answer more time: the connection moves data, so it lives, and the
    /// answer only stands in line.
    pub fn extend(&mut self, now: Time) {
        let patience = self.patience();
        if let Some(ping) = &mut self.outstanding {
            ping.deadline = now + patience;
        }
    }

    /// When to look again: at the next ping, or at the deadline of the one that is out.
    pub fn next_timer(&self) -> Time {
        self.outstanding.map_or(self.next_ping, |ping| ping.deadline)
    }

    /// The smoothed round trip.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|measured| measured.smoothed)
    }

    fn send(&mut self, now: Time, patience: Duration) -> u64 {
        self.sequence += 1;
        let sequence = self.sequence;
        self.outstanding = Some(Outstanding { sequence, sent: now, deadline: now + patience });
        sequence
    }

    fn patience(&self) -> Duration {
        self.round_trip.map_or(UNKNOWN_PATIENCE, |measured| measured.patience().max(LEAST_PATIENCE))
    }
}

impl RoundTrip {
    fn with(self, sample: Duration) -> Self {
        let deviation = self.smoothed.abs_diff(sample);
        Self {
            variation: self.variation * 3 / 4 + deviation / 4,
            smoothed: self.smoothed * 7 / 8 + sample / 8,
        }
    }

    fn patience(self) -> Duration {
        self.smoothed + self.variation * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> Time {
        Time::after_start(Duration::from_millis(millis))
    }

    #[test]
    fn one_ping_at_a_time_and_late_after_a_second() {
        let mut live = Liveness::new(INTERVAL, at(0));
        let first = live.ping_due(at(0)).unwrap();
        assert_eq!(live.ping_due(at(9_000)), None);
        assert!(live.pong(first, at(20)));
        assert_eq!(live.ping_due(at(5_019)), None);
        let second = live.ping_due(at(5_020)).unwrap();
        assert!(!live.is_late(at(6_019)));
        assert!(live.is_late(at(6_020)));
        assert!(!live.pong(first, at(6_021)), "an old answer answers nothing");
        assert!(live.pong(second, at(6_022)), "a late answer still counts");
        assert!(!live.is_late(at(7_000)));
    }

    #[test]
    fn a_change_of_the_network_is_asked_about_at_once() {
        let mut live = Liveness::new(INTERVAL, at(0));
        let first = live.ping_due(at(0)).unwrap();
        live.pong(first, at(10));
        assert!(live.hurry(at(1_000)).is_some());
        assert!(!live.is_late(at(1_199)));
        assert!(live.is_late(at(1_200)));
    }

    #[test]
    fn hurry_never_lengthens_a_wait() {
        let mut live = Liveness::new(INTERVAL, at(0));
        let first = live.ping_due(at(0)).unwrap();
        live.pong(first, at(10));
        live.ping_due(at(5_010)).unwrap();
        assert_eq!(live.hurry(at(5_900)), None);
        assert!(live.is_late(at(6_010)));
    }

    #[test]
    fn a_moving_connection_gets_more_time() {
        let mut live = Liveness::new(INTERVAL, at(0));
        live.ping_due(at(0)).unwrap();
        assert!(live.is_late(at(3_000)));
        live.extend(at(3_000));
        assert!(!live.is_late(at(5_999)));
        assert!(live.is_late(at(6_000)));
    }

    #[test]
    fn who_asks_out_of_turn_is_answered_by_a_ping_of_his_own() {
        let mut live = Liveness::new(INTERVAL, at(0));
        let first = live.ping_due(at(0)).unwrap();
        live.ask(at(10));
        assert_eq!(live.ping_due(at(10)), None, "one at a time");
        live.pong(first, at(20));
        assert!(!live.answered_since(at(10)), "it was sent before");
        let second = live.ping_due(at(20)).unwrap();
        live.pong(second, at(40));
        assert!(live.answered_since(at(10)));
        assert_eq!(live.ping_due(at(5_039)), None);
        live.ask(at(5_039));
        assert!(live.ping_due(at(5_039)).is_some());
    }

    proptest! {
        #[test]
        fn a_timer_is_always_ahead_or_due(steps in prop::collection::vec((0u64..4_000, any::<bool>()), 1..100)) {
            let mut live = Liveness::new(INTERVAL, at(0));
            let mut now = 0;
            let mut out = None;
            for (pause, answer) in steps {
                now += pause;
                if answer && let Some(sequence) = out.take() {
                    prop_assert!(live.pong(sequence, at(now)));
                }
                out = live.ping_due(at(now)).or(out);
                let wait = live.next_timer();
                // Late, or waiting for something that lies ahead; never asleep for good.
                prop_assert!(live.is_late(at(now)) || wait > at(now));
                prop_assert!(wait <= at(now + 3_000) || wait <= at(now) + INTERVAL || out.is_some());
            }
        }
    }
}
