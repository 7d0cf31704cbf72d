//! The Swift bindings, compiled and run with a Swift of this machine, or with Debian's in a folder that
//! `tests/bindings/swift-chroot` makes.

use std::{env, fs};

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Program, all_scenarios, bindings, fresh_folder, search_path, skip, sources,
};

#[test]
fn the_fixture_keeps_its_promises_in_swift() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift")?;
    bindings("tuntrail_ffi_fixture", Language::Swift, &folder)?;
    let main = folder.join("main.swift");
    fs::copy(sources().join("swift/main.swift"), &main)
        .map_err(|source| Failure::File { path: main, source })?;
    let compile = "swiftc -swift-version 6 -o caller main.swift fixture.swift \
                   -Xcc -fmodule-map-file=\"$PWD\"/fixtureFFI.modulemap -L . -ltuntrail_ffi_fixture \
                   -Xlinker -rpath -Xlinker '$ORIGIN'";
    swift.run(&folder, compile)?;
    all_scenarios(&swift.run(&folder, "./caller")?)
}

enum Swift {
    /// Found on the search path.
    Here,
    /// In a folder with a Debian of its own.
    Chroot(Utf8PathBuf),
}

impl Swift {
    fn find() -> Result<Option<Self>, Failure> {
        if search_path("swiftc").is_some() {
            return Ok(Some(Self::Here));
        }
        // The same default as in the script.
        let folder =
            env::var("TUNTRAIL_SWIFT_CHROOT").unwrap_or_else(|_| "/var/cache/tuntrail/swift".to_owned());
        let folder = Utf8PathBuf::from(folder);
        if !folder.join("usr/bin/swiftc").exists() {
            skip("Swift", "as root: apt-get install debootstrap && tests/bindings/swift-chroot")?;
            return Ok(None);
        }
        if !rustix::process::geteuid().is_root() {
            skip("root, for the Swift in a chroot", "run the tests as root")?;
            return Ok(None);
        }
        Ok(Some(Self::Chroot(folder)))
    }

    /// Runs a shell command in `folder`.
    fn run(&self, folder: &Utf8Path, command: &str) -> Result<String, Failure> {
        match self {
            Self::Here => Program::new("sh").args(["-euc", command]).current_dir(folder).run(),
            // Mounts in a namespace of their own: they are gone with the command, whatever happens to it.
            Self::Chroot(root) => Program::new("unshare")
                .args(["-m", "--propagation", "private", "sh", "-euc"])
                .arg(
                    "mount -t proc proc \"$1/proc\"; mount --bind \"$2\" \"$1/mnt\"; \
                     exec chroot \"$1\" sh -euc 'cd /mnt; eval \"$1\"' sh \"$3\"",
                )
                .args(["sh", root.as_str(), folder.as_str(), command])
                .run(),
        }
    }
}
