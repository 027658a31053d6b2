//! Reads a printed text back into [`Roads`]. It may come from anybody.
//!
//! `~/.ssh/config` can run programs (`ProxyCommand`, `LocalCommand`, `Match exec`,
//! `KnownHostsCommand`, `Include` of a file that does), so only the lines that [`super::render`]
//! prints are read, with values of the same types. What is not known is refused and not skipped.

use std::fmt;
use std::str::FromStr;

use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::{KnownHost, Names};
use wayhome_core::name::Name;

use super::render::{
    BEGIN_CONFIG, BEGIN_KNOWN_HOSTS, END_CONFIG, END_KNOWN_HOSTS, FORMAT, GatewayRoad, HEADER,
    HomeRoad, LOOPBACK, Roads, control_path,
};
use super::values::{Alias, KeyPath, shortened};

/// The longest text that is read: some hundred machines with all their keys.
pub const MAX_TEXT: usize = 256 * 1024;

/// A text that was read, under the name that it is installed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The home that printed it.
    pub name: Name,
    /// What it says.
    pub roads: Roads,
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1; `None` if the text as a whole is wrong.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for ParseError {}

/// Reads what [`super::render()`] wrote, and nothing else.
pub fn parse(text: &str) -> Result<Printed, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(whole("the text has more than 256 KB, which no home prints".into()));
    }
    let mut reader = Reader::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end_matches('\r');
        reader.line(number, line).map_err(|reason| ParseError { line: Some(number), reason })?;
    }
    reader.finish()
}

/// Which part of the text a line is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    BeforeHeader,
    BeforeConfig,
    Config,
    BeforeKnownHosts,
    KnownHosts,
    End,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reader {
    part: Part,
    name: Option<Name>,
    blocks: Vec<RawBlock>,
    keys: Vec<KeyLine>,
}

/// A `Host` with its lines, each with its number.
#[derive(Debug)]
struct RawBlock {
    line: usize,
    /// `None` for the `Host *` at the end.
    alias: Option<Alias>,
    options: Vec<(usize, &'static str, String)>,
}

/// A line of the second part.
#[derive(Debug)]
struct KeyLine {
    line: usize,
    name: String,
    key: HostKey,
    used: bool,
}

/// Every keyword that is printed. `UserKnownHostsFile` is none: where keys lie, the laptop decides.
pub(super) const KEYWORDS: [&str; 13] = [
    "HostName",
    "Port",
    "User",
    "IdentityFile",
    "IdentitiesOnly",
    "ProxyJump",
    "HostKeyAlias",
    "StrictHostKeyChecking",
    "ServerAliveInterval",
    "ServerAliveCountMax",
    "ControlMaster",
    "ControlPath",
    "ControlPersist",
];

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err("there is a control character".into());
        }
        let line = line.trim_ascii();
        if let Some(next) = self.marker(line)? {
            self.part = next;
            return Ok(());
        }
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        match self.part {
            Part::Config => self.config_line(number, line),
            Part::KnownHosts => self.known_hosts_line(number, line),
            Part::BeforeHeader => Err(format!(
                "`{}` stands before the line `{HEADER} …` that such a text begins with",
                shortened(line)
            )),
            Part::BeforeConfig | Part::BeforeKnownHosts | Part::End => Err(format!(
                "`{}` stands outside the two parts that wayhome prints",
                shortened(line)
            )),
        }
    }

    /// The part that a marker opens or closes; an error if it is not its turn.
    fn marker(&mut self, line: &str) -> Result<Option<Part>, String> {
        let (turn, next) = match line {
            BEGIN_CONFIG => (Part::BeforeConfig, Part::Config),
            END_CONFIG => (Part::Config, Part::BeforeKnownHosts),
            BEGIN_KNOWN_HOSTS => (Part::BeforeKnownHosts, Part::KnownHosts),
            END_KNOWN_HOSTS => (Part::KnownHosts, Part::End),
            _ => match line.strip_prefix(HEADER) {
                Some(rest) => {
                    self.name = Some(header_name(rest)?);
                    (Part::BeforeHeader, Part::BeforeConfig)
                }
                None => return Ok(None),
            },
        };
        if self.part == turn {
            Ok(Some(next))
        } else {
            Err(format!("`{}` is out of place", shortened(line)))
        }
    }

    fn config_line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let (keyword, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let value = value.trim_ascii();
        if self.blocks.last().is_some_and(|block| block.alias.is_none()) {
            return Err("nothing may follow `Host *`".into());
        }
        if keyword == "Host" {
            let alias = if value == "*" { None } else { Some(read(value)?) };
            self.blocks.push(RawBlock { line: number, alias, options: Vec::new() });
            return Ok(());
        }
        let known = KEYWORDS.into_iter().find(|known| *known == keyword).ok_or_else(|| {
            format!("`{}` is not among the options that wayhome prints", shortened(keyword))
        })?;
        let block = self.blocks.last_mut().ok_or("an option stands before the first `Host`")?;
        if block.options.iter().any(|(_, keyword, _)| *keyword == known) {
            return Err(format!("`{known}` stands twice under one `Host`"));
        }
        block.options.push((number, known, value.to_owned()));
        Ok(())
    }

    fn known_hosts_line(&mut self, line_number: usize, line: &str) -> Result<(), String> {
        let Some(host) = KnownHost::parse_line(line).map_err(|e| e.to_string())? else {
            return Ok(());
        };
        match (host.marker, host.names) {
            (None, Names::Listed(names)) if names.len() == 1 => {
                let name = names.into_iter().next().unwrap_or_default();
                self.keys.push(KeyLine { line: line_number, name, key: host.key, used: false });
                Ok(())
            }
            _ => Err("wayhome prints one plain name before a key, and no marker".into()),
        }
    }

    fn finish(mut self) -> Result<Printed, ParseError> {
        let cut = || whole("the text is not whole: its end is missing".into());
        if self.part == Part::BeforeHeader {
            return Err(whole(format!("there is no line `{HEADER} {FORMAT} NAME`")));
        }
        let name = self.name.take().filter(|_| self.part == Part::End).ok_or_else(cut)?;
        let mut roads = Roads::default();
        for block in std::mem::take(&mut self.blocks) {
            self.block(&mut roads, block)?;
        }
        if let Some(stray) = self.keys.iter().find(|key| !key.used) {
            let reason = format!("no block is about `{}`", shortened(&stray.name));
            return Err(ParseError { line: Some(stray.line), reason });
        }
        roads.check().map_err(|error| whole(error.to_string()))?;
        if roads.name() != Some(&name) {
            return Err(whole(format!(
                "the first machine is not `{name}`, as the first line says"
            )));
        }
        Ok(Printed { name, roads })
    }

    /// Turns a block into a road. One with a `ProxyJump` leads to a machine, another to a gateway.
    fn block(&mut self, roads: &mut Roads, block: RawBlock) -> Result<(), ParseError> {
        let Some(alias) = block.alias else { return Ok(()) };
        let mut options = Options { line: block.line, options: block.options };
        let host: Option<super::HostName> = options.take("HostName")?;
        let host = host.ok_or_else(|| options.missing("HostName"))?;
        let port = options.take_number("Port", u16::MAX)?;
        let user = options.take("User")?;
        options.take_word("StrictHostKeyChecking", "yes", true)?;
        options.take_number("ServerAliveInterval", 3600)?;
        options.take_number("ServerAliveCountMax", 100)?;
        let Some(gateway) = options.take::<Alias>("ProxyJump")? else {
            let identity = options.take_path()?;
            options.take_word("IdentitiesOnly", "yes", identity.is_some())?;
            let port = port.unwrap_or(22);
            let mut road = GatewayRoad { alias, host, port, user, identity, host_keys: vec![] };
            road.host_keys = self.keys_of(&road.known_name());
            roads.gateways.push(road);
            return options.finish();
        };
        if host.as_str() != LOOPBACK {
            return Err(options.error(format!("behind a gateway, `HostName` is {LOOPBACK}")));
        }
        let via = roads.gateways.iter().position(|road| road.alias == gateway);
        let via =
            via.ok_or_else(|| options.error(format!("no gateway `{gateway}` stands above")))?;
        let name: Name =
            options.take("HostKeyAlias")?.ok_or_else(|| options.missing("HostKeyAlias"))?;
        let port = port.ok_or_else(|| options.missing("Port"))?;
        roads.multiplex |= options.take_multiplex(&alias)?;
        options.finish()?;
        let line = block.line;
        let host_keys = self.keys_of(name.as_str());
        roads.homes.push(HomeRoad { alias: name, port, user, via, host_keys });
        // Which alias a road has follows from the roads before it; another one is not ours.
        match roads.home_aliases().ok().as_deref() {
            Some([.., expected]) if *expected == alias => Ok(()),
            _ => {
                let reason = format!("`{alias}` is not what wayhome calls this road");
                Err(ParseError { line: Some(line), reason })
            }
        }
    }

    fn keys_of(&mut self, name: &str) -> Vec<HostKey> {
        let named = self.keys.iter_mut().filter(|key| key.name == name);
        named
            .map(|key| {
                key.used = true;
                key.key.clone()
            })
            .collect()
    }
}

/// The options of one block, each taken out once.
struct Options {
    line: usize,
    options: Vec<(usize, &'static str, String)>,
}

impl Options {
    fn take_text(&mut self, keyword: &str) -> Option<(usize, String)> {
        let place = self.options.iter().position(|(_, found, _)| *found == keyword)?;
        let (line, _, value) = self.options.remove(place);
        Some((line, value))
    }

    fn take<T>(&mut self, keyword: &str) -> Result<Option<T>, ParseError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let Some((line, value)) = self.take_text(keyword) else { return Ok(None) };
        read(&value).map(Some).map_err(|reason| ParseError { line: Some(line), reason })
    }

    fn take_number(&mut self, keyword: &str, max: u16) -> Result<Option<u16>, ParseError> {
        let Some((line, value)) = self.take_text(keyword) else { return Ok(None) };
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        match value.parse() {
            Ok(number) if digits && (1..=max).contains(&number) => Ok(Some(number)),
            _ => {
                let reason = format!("`{}` is not a number up to {max}", shortened(&value));
                Err(ParseError { line: Some(line), reason })
            }
        }
    }

    /// Takes an option that has only one value.
    fn take_word(&mut self, keyword: &str, only: &str, expected: bool) -> Result<(), ParseError> {
        match self.take_text(keyword) {
            Some((_, value)) if expected && value == only => Ok(()),
            None if !expected => Ok(()),
            None => Err(self.missing(keyword)),
            Some((line, _)) if !expected => {
                Err(ParseError { line: Some(line), reason: format!("`{keyword}` is out of place") })
            }
            Some((line, _)) => {
                let reason = format!("wayhome prints only `{keyword} {only}`");
                Err(ParseError { line: Some(line), reason })
            }
        }
    }

    fn take_path(&mut self) -> Result<Option<KeyPath>, ParseError> {
        let Some((line, value)) = self.take_text("IdentityFile") else { return Ok(None) };
        let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(&value);
        let path: KeyPath = read(bare).map_err(|reason| ParseError { line: Some(line), reason })?;
        if path.quoted() == value {
            return Ok(Some(path));
        }
        let reason = format!("the path must be written as `{}`", path.quoted());
        Err(ParseError { line: Some(line), reason })
    }

    fn take_multiplex(&mut self, alias: &Alias) -> Result<bool, ParseError> {
        let shares = self.options.iter().any(|(_, keyword, _)| keyword.starts_with("Control"));
        if let (true, Some(path)) = (shares, control_path(alias)) {
            self.take_word("ControlMaster", "auto", true)?;
            self.take_word("ControlPath", &path, true)?;
            self.take_word("ControlPersist", "60s", true)?;
        }
        Ok(shares)
    }

    fn finish(self) -> Result<(), ParseError> {
        match self.options.first() {
            None => Ok(()),
            Some((line, keyword, _)) => Err(ParseError {
                line: Some(*line),
                reason: format!("`{keyword}` is out of place"),
            }),
        }
    }

    fn error(&self, reason: String) -> ParseError {
        ParseError { line: Some(self.line), reason }
    }

    fn missing(&self, keyword: &str) -> ParseError {
        self.error(format!("the block has no `{keyword}`"))
    }
}

fn header_name(rest: &str) -> Result<Name, String> {
    let mut words = rest.split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    if version != FORMAT.to_string() {
        return Err(format!(
            "the text is of version `{}` and this wayhome reads version {FORMAT}: print it and \
             write it with the same version",
            shortened(version)
        ));
    }
    match (words.next(), words.next()) {
        (Some(name), None) => read(name),
        _ => Err("the first line does not name one home".into()),
    }
}

fn read<T>(text: &str) -> Result<T, String>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn whole(reason: String) -> ParseError {
    ParseError { line: None, reason }
}
