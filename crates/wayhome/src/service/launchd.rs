//! The property list for a Mac's launchd: text from facts. It is untested on a Mac, and says so.

use std::fmt::Write;
use std::path::PathBuf;

/// The job's label.
pub const LABEL: &str = "wayhome.agent";

/// The facts of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The program.
    pub program: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// The account, for a job of the system's; `None` for a person's own.
    pub user: Option<String>,
}

impl Job {
    /// Where the file belongs.
    pub fn place(&self) -> String {
        match self.user {
            Some(_) => format!("/Library/LaunchDaemons/{LABEL}.plist"),
            None => format!("~/Library/LaunchAgents/{LABEL}.plist"),
        }
    }

    /// The property list.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
             \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n",
        );
        let place = self.place();
        let domain = if self.user.is_some() { "system" } else { "gui/$(id -u)" };
        let _ = write!(
            text,
            "<!-- Written by `wayhome service install agent`. UNTESTED on macOS.\n     \
             It belongs into {place}; then\n       \
             launchctl bootstrap {domain} {place}\n     \
             A person's own job runs only while that person is logged in. -->\n\
             <plist version=\"1.0\">\n<dict>\n"
        );
        let mut string = |key: &str, value: &str| {
            let _ = write!(text, "\t<key>{key}</key>\n\t<string>{}</string>\n", escaped(value));
        };
        string("Label", LABEL);
        if let Some(user) = &self.user {
            string("UserName", user);
        }
        let program = self.program.display().to_string();
        let config = self.config.display().to_string();
        text.push_str("\t<key>ProgramArguments</key>\n\t<array>\n");
        for argument in [program.as_str(), "agent", "run", "--config", config.as_str()] {
            let _ = writeln!(text, "\t\t<string>{}</string>", escaped(argument));
        }
        text.push_str(
            "\t</array>\n\
             \t<key>RunAtLoad</key>\n\t<true/>\n\
             \t<key>KeepAlive</key>\n\t<true/>\n\
             \t<key>ThrottleInterval</key>\n\t<integer>5</integer>\n\
             \t<key>ExitTimeOut</key>\n\t<integer>10</integer>\n\
             \t<key>ProcessType</key>\n\t<string>Background</string>\n\
             \t<key>Umask</key>\n\t<integer>63</integer>\n",
        );
        if self.user.is_some() {
            // A person's own job has no folder that is sure to be there; `log show` has its words.
            text.push_str(
                "\t<key>StandardErrorPath</key>\n\t<string>/var/log/wayhome-agent.log</string>\n",
            );
        }
        text + "</dict>\n</plist>\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(user: Option<&str>) -> Job {
        Job {
            program: "/usr/local/bin/wayhome".into(),
            config: "/etc/wayhome/agent.toml".into(),
            user: user.map(str::to_owned),
        }
    }

    #[test]
    fn a_job_of_the_systems() {
        insta::assert_snapshot!(job(Some("fan")).render());
    }

    #[test]
    fn a_persons_own_job() {
        insta::assert_snapshot!(job(None).render());
    }

    #[test]
    fn a_path_stays_text() {
        let mut job = job(None);
        job.config = "/a&b/<c>.toml".into();
        assert!(job.render().contains("<string>/a&amp;b/&lt;c&gt;.toml</string>"));
    }
}
