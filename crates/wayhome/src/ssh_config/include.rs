//! A person's `~/.ssh/config`, as bytes: the one line of ours in it, and whether theirs say the same.
//!
//! Pure. Nothing else in the file is ours to change, so it is never parsed and written again.

use std::path::Path;

use super::values::Alias;

/// The line. It stands above every `Host`: below one it would count for that host alone. `ssh`
/// closes the blocks of a file that it includes, so that what follows the line means what it did.
pub(super) const INCLUDE: &str = "Include ~/.ssh/wayhome/*.conf";

/// The file with the line at its top. `None` if it has one already, in whatever form.
pub(super) fn with_include(config: &[u8], ssh_folder: &Path) -> Option<Vec<u8>> {
    let absolute = format!("{}/wayhome/*.conf", ssh_folder.display());
    let forms = ["~/.ssh/wayhome/*.conf", "wayhome/*.conf", absolute.as_str()];
    let includes_ours = |line: &[u8]| {
        let setting = Setting::read(line);
        setting.keyword == "include"
            && setting.arguments.iter().any(|a| forms.contains(&a.as_str()))
    };
    if global_lines(config).any(includes_ours) {
        return None;
    }
    let windows = config.split_inclusive(|b| *b == b'\n').next();
    let end = if windows.is_some_and(|line| line.ends_with(b"\r\n")) { "\r\n" } else { "\n" };
    Some([INCLUDE.as_bytes(), end.as_bytes(), config].concat())
}

/// The file without the line. `None` if it is not there as we write it.
pub(super) fn without_include(config: &[u8]) -> Option<Vec<u8>> {
    let global = global_lines(config).map(<[u8]>::len).sum();
    let (above, below) = config.split_at_checked(global)?;
    let ours = |line: &&[u8]| line.trim_ascii_end() == INCLUDE.as_bytes();
    let kept = above.split_inclusive(|b| *b == b'\n').filter(|line| !ours(line));
    let kept: Vec<u8> = kept.flatten().copied().collect();
    (kept.len() < above.len()).then(|| [&kept, below].concat())
}

/// The lines, counted from 1, that open a block for this very alias.
pub(super) fn lines_about(config: &[u8], alias: &Alias) -> Vec<usize> {
    let about = |line: &[u8]| {
        let setting = Setting::read(line);
        setting.keyword == "host"
            && setting.arguments.iter().any(|a| a.eq_ignore_ascii_case(alias.as_str()))
    };
    let lines = (1..).zip(config.split(|b| *b == b'\n'));
    lines.filter(|(_, line)| about(line)).map(|(number, _)| number).collect()
}

/// The first block for an alias in a file of ours, without the path of the keys, in which the same
/// block differs between two homes.
pub(super) fn block_about(config: &str, alias: &Alias) -> Vec<String> {
    let head = format!("Host {alias}");
    let from_head = config.lines().skip_while(|line| **line != head);
    let block = from_head.take_while(|line| !line.is_empty());
    block.filter(|line| !line.contains("UserKnownHostsFile")).map(str::to_owned).collect()
}

/// The lines that count for every host: those above the first block.
fn global_lines(config: &[u8]) -> impl Iterator<Item = &[u8]> {
    config
        .split_inclusive(|b| *b == b'\n')
        .take_while(|line| !matches!(&*Setting::read(line).keyword, "host" | "match"))
}

/// One line, as far as the questions here need it. A comment has `#` in its keyword, which no
/// question asks for.
struct Setting {
    /// In lower case, as `ssh` reads it.
    keyword: String,
    arguments: Vec<String>,
}

impl Setting {
    fn read(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let end = line.find(|c: char| c.is_whitespace() || c == '=' || c == '"');
        let (keyword, rest) = line.split_at_checked(end.unwrap_or(line.len())).unwrap_or_default();
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        // What stands in quotes is every other piece, and is one argument with its spaces.
        let pieces = rest.split('"').enumerate().flat_map(|(place, piece)| {
            let quoted = place % 2 == 1;
            let whole = quoted.then_some(piece);
            whole.into_iter().chain(piece.split_whitespace().filter(move |_| !quoted))
        });
        let arguments = pieces.map(str::to_owned).collect();
        Self { keyword: keyword.to_ascii_lowercase(), arguments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(config: &str) -> Option<String> {
        with_include(config.as_bytes(), Path::new("/home/fan/.ssh"))
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_line_comes_first_in_the_way_that_the_file_ends_its_lines() {
        let plain = "# mine\nHost a\n  User b";
        assert_eq!(with(plain).unwrap(), format!("{INCLUDE}\n{plain}"));
        let windows = "Host a\r\n  User b\r\n";
        assert_eq!(with(windows).unwrap(), format!("{INCLUDE}\r\n{windows}"));
        assert_eq!(with("").unwrap(), format!("{INCLUDE}\n"));
    }

    #[test]
    fn a_line_by_hand_is_enough() {
        for line in [
            INCLUDE,
            "include wayhome/*.conf",
            "  INCLUDE=wayhome/*.conf",
            "Include = \"~/.ssh/wayhome/*.conf\"",
            "Include config.d/* ~/.ssh/wayhome/*.conf",
            "Include /home/fan/.ssh/wayhome/*.conf\r",
        ] {
            assert_eq!(with(&format!("# top\nForwardAgent no\n{line}\nHost a\n")), None, "{line}");
        }
    }

    #[test]
    fn a_line_that_does_not_count_is_not_enough() {
        for config in [
            format!("Host a\n{INCLUDE}\n"),
            format!("match host a\n{INCLUDE}\n"),
            format!("# {INCLUDE}\n"),
            "Include config.d/*\n".to_owned(),
        ] {
            assert!(with(&config).is_some(), "{config}");
        }
    }

    #[test]
    fn only_our_line_is_taken_away() {
        let gone = |config: &str| without_include(config.as_bytes());
        let config = format!("# a\r\n{INCLUDE}\r\nHost a\n  {INCLUDE}\n");
        assert_eq!(gone(&config).unwrap(), format!("# a\r\nHost a\n  {INCLUDE}\n").as_bytes());
        assert_eq!(gone("Include wayhome/*.conf\n"), None);
        assert_eq!(gone(INCLUDE).unwrap(), b"");
    }

    #[test]
    fn finds_who_else_means_the_alias() {
        let alias = "home-ubuntu".parse().unwrap();
        let config = b"Host home-ubuntu\nHost a Home-Ubuntu b\n#Host home-ubuntu\nHost home-*\n";
        assert_eq!(lines_about(config, &alias), [1, 2]);
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(config in proptest::collection::vec(any::<u8>(), 0..200)) {
            let folder = Path::new("/home/fan/.ssh");
            let with = with_include(&config, folder).unwrap();
            prop_assert_eq!(with_include(&with, folder), None);
            prop_assert_eq!(without_include(&with).unwrap(), config);
        }

        #[test]
        fn every_line_comes_back(
            config in "((host|match|Include|User)[ =]\"?[a-z~/*.]{0,12}\"?(\r\n|\n)){0,6}"
        ) {
            let folder = Path::new("/home/fan/.ssh");
            let with = with_include(config.as_bytes(), folder).unwrap();
            prop_assert_eq!(without_include(&with).unwrap(), config.as_bytes());
        }
    }
}
