//! The messages of `proto/wayhome.proto`, as Rust has them.
//!
//! `generated` is made from that file, and a test compares the two. After a change of the file:
//! `WAYHOME_UPDATE=1 cargo nextest run -p wayhome -E 'test(messages)'`.

#[allow(missing_docs, reason = "what each is, the file says that they are made from")]
mod generated;

pub use generated::*;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_messages_are_those_of_the_proto_files() {
        compare("wayhome.proto", "wayhome.v1.rs", "src/wire/messages/generated.rs");
        let of_gateway = "src/gateway/handover/generated.rs";
        compare("handover.proto", "wayhome.handover.v1.rs", of_gateway);
    }

    fn compare(proto: &str, made: &str, kept: &str) {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = protox::compile([proto], [crate_dir.join("../../proto")]).unwrap();
        let out = tempfile::tempdir().unwrap();
        let mut build = prost_build::Config::new();
        build.out_dir(out.path()).compile_fds(files).unwrap();
        let made = std::fs::read_to_string(out.path().join(made)).unwrap();
        let made = format!("//! Made from `proto/{proto}`; not to be edited.\n\n{made}");
        let kept = crate_dir.join(kept);
        if std::env::var_os("WAYHOME_UPDATE").is_some() {
            std::fs::write(&kept, &made).unwrap();
        }
        let kept = std::fs::read_to_string(kept).unwrap_or_default();
        let same = made.split_whitespace().eq(kept.split_whitespace());
        assert!(same, "run it once more with WAYHOME_UPDATE=1");
    }
}
