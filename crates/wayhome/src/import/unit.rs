//! A systemd unit's text: its settings, as systemd.syntax(7) has them. What they mean is left to
//! `exec`.

/// The settings of a unit, in the order in which they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    settings: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    section: String,
    key: String,
    value: String,
}

impl Unit {
    /// Reads a unit, and its drop-ins if they stand after it (as `systemctl cat` prints them). What
    /// is no setting is passed over, as systemd does.
    pub fn parse(text: &str) -> Self {
        let mut unit = Self::default();
        let mut section = String::new();
        for line in logical_lines(text) {
            let name = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(name) = name {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                unit.settings.push(Setting {
                    section: section.clone(),
                    key: key.trim().to_owned(),
                    value: value.trim().to_owned(),
                });
            }
        }
        unit
    }

    /// The value of a setting that has one value: the last.
    pub fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.all(section, key).last().copied()
    }

    /// The values of a setting that is a list; an empty value empties it.
    pub fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for setting in self.settings.iter().filter(|s| s.section == section && s.key == key) {
            if setting.value.is_empty() {
                values.clear();
            } else {
                values.push(setting.value.as_str());
            }
        }
        values
    }
}

/// Lines with their continuations joined, without comments and empty ones. A comment between a line
/// and its continuation is none of it.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (part, goes_on) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        let mut whole = open.take().unwrap_or_default();
        whole.push_str(part);
        if goes_on {
            // The backslash and the line's end are one blank.
            whole.push(' ');
            open = Some(whole);
        } else if !whole.trim().is_empty() {
            lines.push(whole.trim().to_owned());
        }
    }
    lines.extend(open.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_settings_continuations_and_comments() {
        let unit = Unit::parse(
            "# /etc/systemd/system/x.service\n[Unit]\nDescription = A tunnel\n\n[Service]\n\
             User=fan\nEnvironment=A=1\nEnvironment=\"B=2 3\"\nExecStart=/usr/bin/ssh -N \\\n\
             # a remark in between\n  -R 2222:localhost:22 \\\n  gw\nno setting\n",
        );
        assert_eq!(unit.last("Unit", "Description"), Some("A tunnel"));
        assert_eq!(unit.last("Service", "User"), Some("fan"));
        assert_eq!(unit.last("Unit", "User"), None, "another section's");
        assert_eq!(unit.all("Service", "Environment"), ["A=1", "\"B=2 3\""]);
        let exec = unit.last("Service", "ExecStart").unwrap();
        let words: Vec<&str> = exec.split_whitespace().collect();
        assert_eq!(words, ["/usr/bin/ssh", "-N", "-R", "2222:localhost:22", "gw"]);
    }

    #[test]
    fn a_drop_in_replaces_a_list_by_emptying_it() {
        let unit = Unit::parse(
            "[Service]\nExecStart=/bin/a\n# /etc/x.service.d/b.conf\n[Service]\nExecStart=\n\
             ExecStart=/bin/b\n",
        );
        assert_eq!(unit.all("Service", "ExecStart"), ["/bin/b"]);
    }

    #[test]
    fn a_continuation_that_nothing_follows_is_a_line() {
        assert_eq!(Unit::parse("[S]\nA=b \\").last("S", "A"), Some("b"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let _ = Unit::parse(&text);
        }
    }
}
