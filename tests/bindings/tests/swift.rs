//! The Swift bindings, compiled and run with a Swift of this machine, or with Debian's in a folder that
//! `tests/bindings/swift-chroot` makes.

use std::{env, fs};

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Program, SCENARIOS, SDK_STEPS, all_of, bindings, fresh_folder, sdk_bindings, search_path, skip,
    sources,
};

#[test]
fn the_fixture_keeps_its_promises_in_swift() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift")?;
    bindings("tuntrail_ffi_fixture", Language::Swift, &folder)?;
    let sources = [("swift/main.swift", "main.swift")];
    swift.compile(&folder, &sources, &["fixture"], &["tuntrail_ffi_fixture"])?;
    all_of(SCENARIOS, &swift.run(&folder, "./caller")?)
}

#[test]
fn the_sdk_goes_through_all_steps_in_swift() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift-sdk")?;
    sdk_bindings(Language::Swift, &folder)?;
    let sources = [
        // What is not inside a function must stand in a file of this name.
        ("swift/Sdk.swift", "main.swift"),
        ("swift/SdkApp.swift", "SdkApp.swift"),
        ("swift/SdkUploads.swift", "SdkUploads.swift"),
    ];
    let libraries = ["tuntrail_ffi", "tuntrail_test_peer"];
    swift.compile(&folder, &sources, &["Tuntrail", "testpeer"], &libraries)?;
    fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift-sdk/records")?;
    all_of(SDK_STEPS, &swift.run(&folder, "./caller records")?)
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

    /// Compiles sources, under the names they are to have, and the bindings of `modules` in `folder` to `caller`.
    fn compile(
        &self,
        folder: &Utf8Path,
        files: &[(&str, &str)],
        modules: &[&str],
        libraries: &[&str],
    ) -> Result<(), Failure> {
        let mut command =
            "swiftc -swift-version 6 -o caller -L . -Xlinker -rpath -Xlinker '$ORIGIN'".to_owned();
        for (source, name) in files {
            let copy = folder.join(name);
            fs::copy(sources().join(source), &copy).map_err(|source| Failure::File { path: copy, source })?;
            command.push_str(&format!(" {name}"));
        }
        for module in modules {
            // The header's module has the same name with FFI.
            command
                .push_str(&format!(" {module}.swift -Xcc -fmodule-map-file=\"$PWD\"/{module}FFI.modulemap"));
        }
        for library in libraries {
            command.push_str(&format!(" -l{library}"));
        }
        self.run(folder, &command).map(drop)
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
