//! What a gateway carries, beside what it can: when new work is turned away so that what there is
//! goes on.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Of the descriptors so many are kept for homes and for who has not said yet what they want: no
/// stream takes them. An eighth, and never less than this.
const KEPT_LEAST: usize = 32;

/// New work is turned away when a clock runs late by this. A machine that others keep busy is late by
/// some hundred milliseconds, and serves all the same.
const LATE: Duration = Duration::from_secs(1);

/// What a gateway carries at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The descriptors that connections hold.
    pub descriptors: usize,
    /// How many they may hold.
    pub most: usize,
    /// How late a clock was that should have struck, at best, lately.
    pub late: Duration,
}

/// Why new work is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    /// There are too few descriptors left.
    Descriptors,
    /// It does not come to its work in time.
    Late,
}

impl Load {
    /// Why no stream more is taken, if none is.
    pub fn strain(&self) -> Option<Strain> {
        let kept = (self.most / 8).max(KEPT_LEAST);
        if self.descriptors + kept >= self.most {
            Some(Strain::Descriptors)
        } else if self.late >= LATE {
            Some(Strain::Late)
        } else {
            None
        }
    }

    /// Whether there is no descriptor for anybody, whoever it is.
    pub fn is_full(&self) -> bool {
        self.descriptors + KEPT_LEAST / 4 >= self.most
    }
}

impl fmt::Display for Strain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "nearly out of descriptors, of which each connection is one",
            Self::Late => "overloaded: it does not come to its work in time",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(descriptors: usize, most: usize, late: u64) -> Load {
        Load { descriptors, most, late: Duration::from_millis(late) }
    }

    #[test]
    fn streams_are_turned_away_before_homes_are() {
        assert_eq!(load(800, 1000, 0).strain(), None);
        assert_eq!(load(875, 1000, 0).strain(), Some(Strain::Descriptors));
        assert!(!load(875, 1000, 0).is_full() && load(992, 1000, 0).is_full());
        assert_eq!(load(67, 100, 0).strain(), None);
        assert_eq!(load(68, 100, 0).strain(), Some(Strain::Descriptors));
        // Without any, nothing is taken at all.
        assert!(load(0, 0, 0).is_full() && load(0, 0, 0).strain().is_some());
    }

    #[test]
    fn a_busy_machine_is_not_an_overloaded_gateway() {
        assert_eq!(load(0, 1000, 900).strain(), None);
        assert_eq!(load(0, 1000, 1000).strain(), Some(Strain::Late));
    }
}
