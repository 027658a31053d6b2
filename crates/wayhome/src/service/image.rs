//! An image of another machine in a folder of this one: what is written and removed there must not
//! turn out to be this machine's own.

use std::path::{Path, PathBuf};

use crate::error::{Failure, Outcome};

/// A path of the service's, in the image that it is written to.
pub fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

/// Refuses an image that is no folder, and one in which a link on the way to one of these places leads
/// out of it: an absolute link of the image's means something else to this machine.
pub fn check<'a>(root: Option<&Path>, places: impl IntoIterator<Item = &'a Path>) -> Outcome {
    let Some(root) = root else { return Ok(()) };
    let shown = root.display();
    let whole = root.canonicalize().and_then(|whole| match whole.is_dir() {
        true => Ok(whole),
        false => Err(std::io::ErrorKind::NotADirectory.into()),
    });
    let whole = whole.map_err(|error| {
        Failure::usage(format!("the image `{shown}` cannot be opened"))
            .because(&error)
            .hint("`--root` takes the folder in which the other machine's files lie")
    })?;
    if whole == Path::new("/") {
        return Err(Failure::usage(format!("the image `{shown}` is this machine itself"))
            .hint("leave `--root` out, and it is installed here"));
    }
    for place in places {
        let inside = place.strip_prefix("/").unwrap_or(place);
        for way in inside.ancestors().filter(|way| !way.as_os_str().is_empty()) {
            let way = whole.join(way);
            let leads_out = || !way.canonicalize().is_ok_and(|target| target.starts_with(&whole));
            if way.is_symlink() && leads_out() {
                let link = below(Some(root), way.strip_prefix(&whole).unwrap_or(place));
                let link = link.display();
                return Err(Failure::usage(format!(
                    "`{link}` is a link that leads out of the image `{shown}`"
                ))
                .hint("make it a relative link, or run this inside the image: `chroot`, and there `--root /`"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_may_lead_anywhere_in_the_image_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("image");
        fs::create_dir_all(root.join("usr/etc")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        let check = |place: &str| check(Some(&root), [Path::new(place)]);
        symlink("usr/etc", root.join("inside")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("/nowhere", root.join("usr/etc/dangling")).unwrap();
        for place in ["/usr/etc/wayhome", "/missing/too", "/inside/agent.toml"] {
            check(place).unwrap();
        }
        for place in ["/out", "/out/x", "/absolute/wayhome/agent.toml", "/inside/dangling/x"] {
            let told = check(place).unwrap_err().to_string();
            assert!(told.contains("leads out of the image"), "{place}: {told}");
        }
        symlink(&root, folder.path().join("link")).unwrap();
        super::check(Some(&folder.path().join("link")), [Path::new("/usr/etc")]).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for none in [file, folder.path().join("nowhere")] {
            let told = super::check(Some(&none), []).unwrap_err().to_string();
            assert!(told.contains("cannot be opened"), "{told}");
        }
        for here in ["/", "/usr/.."] {
            let told = super::check(Some(Path::new(here)), []).unwrap_err().to_string();
            assert!(told.contains("is this machine itself"), "{told}");
        }
    }
}
