//! The form of `grants.toml`, and its errors with file and line.

use std::path::Path;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;
use wayhome_core::grant::{Grant, Grants, Label, Net, Reach, Seat};
use wayhome_core::key::Key;

use crate::config::place;
use crate::error::{Failure, Outcome};

/// How it looks, for who wrote something else.
const EXAMPLE: &str =
    "a grant is `[[grant]]` on a line of its own, and below it `key = \"ssh-ed25519 …\"`";

/// In `reach`, for all homes.
const EVERY: &str = "*";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    grant: Vec<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    key: String,
    name: Option<String>,
    #[serde(default)]
    homes: Vec<String>,
    #[serde(default)]
    reach: Vec<String>,
    services: Option<Vec<String>>,
    #[serde(default)]
    ports: Vec<u16>,
    expires: Option<Datetime>,
    #[serde(default)]
    from: Vec<String>,
    #[serde(default)]
    revoked: bool,
}

/// The grants of a text, and what was passed over of it.
pub fn parse(text: &str, path: &Path, seat: Seat) -> Outcome<(Grants, Vec<String>)> {
    let file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().unwrap_or(0..0).start;
        Failure::usage(error.message().trim_end()).at(&place(text, path, start)).hint(EXAMPLE)
    })?;
    let mut passed_over = Vec::new();
    let grants = file.grant.into_iter().filter_map(|entry| {
        let start = entry.span().start;
        match grant(entry.into_inner(), seat) {
            Ok(grant) => Some(grant),
            Err(why) => {
                passed_over.push(format!("{}: {why}; passed over", place(text, path, start)));
                None
            }
        }
    });
    let grants = grants.collect();
    Ok((grants, passed_over))
}

fn grant(entry: toml::Value, seat: Seat) -> Result<Grant, String> {
    let form = Form::deserialize(entry).map_err(|why| why.message().trim_end().to_owned())?;
    let key: Key = value("key", &form.key)?;
    let name = match &form.name {
        Some(name) => value("name", name)?,
        None => nameless(&key)?,
    };
    let reach = match form.reach.as_slice() {
        [every] if every == EVERY => Reach::Every,
        homes => Reach::Only(values("reach", homes)?),
    };
    let grant = Grant {
        key,
        name,
        homes: values("homes", &form.homes)?,
        reach,
        services: form.services.map(|names| values("services", &names)).transpose()?,
        ports: ports(form.ports)?,
        expires: form.expires.map(seconds).transpose()?,
        from: values::<Net>("from", &form.from)?,
        revoked: form.revoked,
    };
    grant.check(seat).map_err(|why| format!("`{}`: {why}", grant.name))?;
    Ok(grant)
}

fn ports(ports: Vec<u16>) -> Result<Vec<u16>, String> {
    match ports.contains(&0) {
        true => Err("`ports`: 0 is no port".into()),
        false => Ok(ports),
    }
}

/// What a key is called that nobody gave a name: how it ends, since all keys begin in the same way.
fn nameless(key: &Key) -> Result<Label, String> {
    let text = key.to_string();
    let end = text.char_indices().rev().nth(11).and_then(|(start, _)| text.get(start..));
    value("name", end.unwrap_or(&text))
}

fn values<T: FromStr<Err: std::fmt::Display>>(
    what: &str,
    texts: &[String],
) -> Result<Vec<T>, String> {
    texts.iter().map(|text| value(what, text)).collect()
}

fn value<T: FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|why: T::Err| format!("`{what}`: {why}"))
}

/// A date of TOML, as seconds since 1970. A day alone is its beginning; no offset is UTC.
fn seconds(date: Datetime) -> Result<u64, String> {
    let wrong = || {
        format!("`expires`: `{date}` is no moment: write `2027-01-31` or `2027-01-31T18:00:00Z`")
    };
    let offset = match date.offset {
        None | Some(toml::value::Offset::Z) => 0,
        Some(toml::value::Offset::Custom { minutes }) => i64::from(minutes) * 60,
    };
    let day = date.date.ok_or_else(wrong)?;
    let time = date.time.map_or((0, 0, 0), |t| (t.hour, t.minute, t.second.unwrap_or(0)));
    let (hour, minute, second) = time;
    let text = format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        day.year, day.month, day.day
    );
    let moment = humantime::parse_rfc3339(&text).map_err(|_| wrong())?;
    let seconds = moment.duration_since(UNIX_EPOCH).map_err(|_| wrong())?.as_secs();
    seconds.checked_add_signed(-offset).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use wayhome_core::name::Name;
    use wayhome_core::refusal::Reason;

    const LAPTOP: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    const HOME: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP//////////////////////////////////////////";

    fn read(text: &str, seat: Seat) -> (Grants, Vec<String>) {
        parse(text, Path::new("/etc/wayhome/grants.toml"), seat).unwrap()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_a_gateway_is_told() {
        let text = format!(
            "[[grant]]\nkey = \"{HOME} root@home\"\nname = \"home\"\nhomes = [\"home-ubuntu\"]\n\
             services = [\"ssh\"]\n\n[[grant]]\nkey = \"{LAPTOP}\"\nname = \"fan's laptop\"\n\
             reach = [\"home-ubuntu\"]\nexpires = 2027-01-31\nfrom = [\"203.0.113.0/24\"]\n"
        );
        let (grants, passed_over) = read(&text, Seat::Gateway);
        assert_eq!(passed_over, [""; 0]);
        let (laptop, home): (Key, Key) = (LAPTOP.parse().unwrap(), HOME.parse().unwrap());
        let inside: IpAddr = "203.0.113.9".parse().unwrap();
        let outside: IpAddr = "198.51.100.9".parse().unwrap();
        let end = 1_801_353_600;
        let ubuntu = name("home-ubuntu");
        assert!(grants.may_be(&home, &ubuntu, outside, end).is_ok());
        assert!(grants.may_offer(&home, &ubuntu, &name("ssh"), outside, end).is_ok());
        let web = grants.may_offer(&home, &ubuntu, &name("web"), outside, end);
        assert_eq!(web.unwrap_err(), Reason::NotAllowed);
        let granted = grants.may_reach(&laptop, &ubuntu, inside, end - 1).unwrap();
        assert_eq!(granted.name.as_str(), "fan's laptop");
        let late = grants.may_reach(&laptop, &ubuntu, inside, end);
        assert_eq!(late.unwrap_err(), Reason::Expired);
        let elsewhere = grants.may_reach(&laptop, &ubuntu, outside, end - 1);
        assert_eq!(elsewhere.unwrap_err(), Reason::WrongAddress);
    }

    #[test]
    fn a_moment_is_told_in_each_way_that_toml_has() {
        for (text, expected) in [
            ("2027-01-31", Ok(1_801_353_600)),
            ("2027-01-31T18:00:00Z", Ok(1_801_418_400)),
            ("2027-01-31T18:00:00", Ok(1_801_418_400)),
            ("2027-01-31T18:00:00+02:00", Ok(1_801_411_200)),
            ("18:00:00", Err(())),
            ("1969-12-31", Err(())),
        ] {
            let date: Datetime = text.parse().unwrap();
            assert_eq!(seconds(date).map_err(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_entry_is_passed_over_and_the_others_count() {
        let good = format!("[[grant]]\nkey = \"{LAPTOP}\"\nreach = [\"*\"]\n");
        for (bad, part) in [
            ("", "missing field `key`"),
            ("key = \"ssh-rsa AAAA\"", "`key`: "),
            ("key = 5", "invalid type"),
            (&format!("key = \"{HOME}\"\nreach = [\"Home\"]"), "`reach`: "),
            (&format!("key = \"{HOME}\"\nhomes = [\"a\\nb\"]"), "`homes`: "),
            (&format!("key = \"{HOME}\"\nname = \"a\\u001b[31m\"\nreach = [\"*\"]"), "`name`: "),
            (
                &format!("key = \"{HOME}\"\nreach = [\"*\"]\nfrom = [\"203.0.113.1/24\"]"),
                "`from`: ",
            ),
            (&format!("key = \"{HOME}\"\nreach = [\"*\"]\nexpires = 18:00:00"), "`expires`: "),
            (&format!("key = \"{HOME}\"\nreach = [\"*\"]\nexpire = 2027-01-31"), "unknown field"),
            (&format!("key = \"{HOME}\""), "the key may do nothing"),
            (&format!("key = \"{HOME}\"\nreach = [\"*\"]\nservices = [\"ssh\"]"), "home's own"),
        ] {
            let text = format!("# first\n[[grant]]\n{bad}\n{good}");
            let (grants, passed_over) = read(&text, Seat::Gateway);
            assert_eq!(grants.iter().count(), 1, "{bad}");
            let [why] = passed_over.as_slice() else { panic!("{bad}: {passed_over:?}") };
            assert!(why.starts_with("/etc/wayhome/grants.toml:2: "), "{why}");
            assert!(why.contains(part) && why.ends_with("; passed over"), "{why}");
        }
    }

    #[test]
    fn a_file_that_has_not_the_form_is_wrong_as_a_whole() {
        for (text, line) in [("[[grant", 1), ("x = 1", 1), ("grant = 5", 1), ("\n[grants]\n", 2)] {
            let why = parse(text, Path::new("g.toml"), Seat::Home).unwrap_err();
            assert!(why.message().starts_with(&format!("g.toml:{line}: ")), "{why}");
        }
        assert_eq!(read("", Seat::Home).0.iter().count(), 0);
    }

    #[test]
    fn a_home_is_told_of_services_alone() {
        let text = format!("[[grant]]\nkey = \"{LAPTOP}\"\nservices = [\"ssh\"]\n");
        let (grants, passed_over) = read(&text, Seat::Home);
        assert_eq!(passed_over, [""; 0]);
        let key: Key = LAPTOP.parse().unwrap();
        assert!(grants.may_use(&key, &name("ssh"), 0).is_ok());
        assert_eq!(grants.may_use(&key, &name("web"), 0).unwrap_err(), Reason::NotAllowed);
        let text = format!("[[grant]]\nkey = \"{LAPTOP}\"\nreach = [\"*\"]\n");
        assert_eq!(read(&text, Seat::Home).1.len(), 1);
    }
}
