//! What is not carried over, told to a person: what, why, and what to do.

use std::fmt;

use wayhome_core::health::Detail;

/// How much a note weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nothing is lost.
    NotNeeded,
    /// It is done in another way, or needs a hand.
    Mind,
    /// Something worked before that will not work now.
    Lost,
}

/// One thing that is not carried over as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What: as it was written.
    pub what: String,
    /// Why, and what to do.
    pub why: String,
    /// How much it weighs.
    pub weight: Weight,
}

/// All that a person should know beside the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Each thing once.
    pub notes: Vec<Note>,
    /// The host that the lines below are for.
    pub host: String,
    /// What belongs into `~/.ssh/config`.
    pub host_block: Vec<String>,
}

impl Notes {
    /// Adds a note.
    pub fn add(&mut self, weight: Weight, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Note { what: what.into(), why: why.into(), weight });
    }

    /// Whether something worked before that will not work now.
    pub fn loses(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(|note| note.weight == Weight::Lost)
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (weight, heading) in [
            (Weight::Lost, "Not imported, and missing then:"),
            (Weight::Mind, "Not as before:"),
            (Weight::NotNeeded, "Not needed any more:"),
        ] {
            let mut notes = self.notes.iter().filter(|note| note.weight == weight).peekable();
            if notes.peek().is_some() {
                writeln!(f, "{heading}")?;
            }
            while let Some(note) = notes.next() {
                writeln!(f, "  {}", Detail::new(&note.what))?;
                // What has the same reason as its neighbour shares it.
                if notes.peek().is_none_or(|next| next.why != note.why) {
                    writeln!(f, "      {}", note.why)?;
                }
            }
        }
        if !self.host_block.is_empty() {
            writeln!(
                f,
                "To be kept in `~/.ssh/config` of the user that runs the agent, at its top:\n\n\
                 Host {}",
                self.host
            )?;
            self.host_block.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}
