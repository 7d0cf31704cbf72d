//! The Kotlin below `android/`, compiled against the real Android API (warnings are errors) and run on the JVM.
//!
//! Google's tools and repository can't be reached everywhere, so Gradle does not run here. Robolectric brings Android's own
//! classes: the VPN service of the tests really starts, on the real Rust library, and moves packets through a real tunnel.
//! The jars that Maven fetches the first time are about 300 MB.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Failure, Jvm, class_path_of, fresh_folder, library, read, sources, write};
use tuntrail_logserver::{Server, ServerConfig};

/// What `android/tuntrail/src/test` and `testNative` have. A class that is not listed would not run, so a test compares.
const TEST_CLASSES: &[&str] = &[
    "EventHubTest",
    "FollowTest",
    "PeerNamesTest",
    "SendTest",
    "TuntrailTest",
    "TuntrailVpnServiceTest",
    "TunnelKeeperTest",
    "TunnelPlanTest",
    "WatchersTest",
    "WorkerTest",
];

#[test]
fn the_android_library_compiles_and_keeps_its_promises() -> Result<(), Failure> {
    let Some(toolchain) = Toolchain::find()? else { return Ok(()) };
    let android = android();
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "android")?;
    let generated = folder.join("generated");
    let library = library("tuntrail_ffi")?;
    // As the app's build does it: with what only Android has.
    tuntrail_bindgen::generate(
        &library,
        Language::Kotlin,
        &generated,
        Some(&repository().join("bindings/uniffi.toml")),
    )?;

    // Generated code has warnings of its own, which are UniFFI's affair: a compilation of its own.
    let bindings = folder.join("bindings");
    let stand_ins = sources().join("android/stand-ins");
    toolchain.compile(&[&generated, &stand_ins], &[], &bindings, Warnings::Allowed)?;
    let main = folder.join("main");
    let plain = android.join("tuntrail/src/plain");
    toolchain.compile(&[&plain], &[&bindings], &folder.join("plain"), Warnings::Errors)?;
    toolchain.compile(
        &[&plain, &android.join("tuntrail/src/main")],
        &[&bindings],
        &main,
        Warnings::Errors,
    )?;
    let sample = folder.join("sample");
    toolchain.compile(&[&android.join("sample/src")], &[&bindings, &main], &sample, Warnings::Errors)?;
    let snippets = snippets(&folder)?;
    toolchain.compile(&[&snippets], &[&bindings, &main], &folder.join("guide"), Warnings::Errors)?;
    // Tests look inside. Gradle has the first folder alone, so that one must do without the second.
    let tests = folder.join("test");
    toolchain.compile_friend(&android.join("tuntrail/src/test"), &[&main], &[&bindings], &tests)?;
    let native_tests = folder.join("testNative");
    let sources = android.join("tuntrail/src/testNative");
    toolchain.compile_friend(&sources, &[&main, &tests], &[&bindings], &native_tests)?;

    let native = folder.join("native");
    copy_into(&library, &native)?;
    let mut server = Server::start(ServerConfig::default()).map_err(|error| failed(&error))?;
    let classes = [&native_tests, &tests, &main, &sample, &bindings].map(Utf8PathBuf::as_path);
    let printed = toolchain.run_tests(&native, &classes, &server.base_url(), &folder)?;
    assert!(printed.contains("\nOK ("), "{printed}");
    let records = |collection| server.entries(collection).map_err(|error| failed(&error));
    let windows = records("windows.android.test")?;
    assert!(
        windows.iter().any(|entry| entry.to_json().contains("10.77.0.2:4444")),
        "the packet that the test sent through the tunnel is in no record"
    );
    server.stop();
    Ok(())
}

#[test]
fn all_test_classes_run() -> Result<(), Failure> {
    let mut files = kotlin_files(&android().join("tuntrail/src/test"))?;
    files.extend(kotlin_files(&android().join("tuntrail/src/testNative"))?);
    let mut found: Vec<String> = files
        .iter()
        .filter_map(|path| path.file_stem().filter(|name| name.ends_with("Test")).map(str::to_owned))
        .collect();
    found.sort_by_key(|name| name.to_lowercase());
    let mut listed = TEST_CLASSES.to_vec();
    listed.sort_by_key(|name| name.to_lowercase());
    assert_eq!(found, listed);
    Ok(())
}

/// Robolectric's Android has what Google's SDK hides from apps, and from what Gradle compiles.
#[test]
fn what_gradle_compiles_uses_nothing_that_the_sdk_hides() -> Result<(), Failure> {
    for folder in ["tuntrail/src/main", "tuntrail/src/plain", "tuntrail/src/test", "sample/src"] {
        for file in kotlin_files(&android().join(folder))? {
            assert!(!read(&file)?.contains("import com.android."), "{file}");
        }
    }
    Ok(())
}

#[test]
fn gradle_and_these_tests_use_the_same_versions() -> Result<(), Failure> {
    let catalog = read(&android().join("gradle/libs.versions.toml"))?;
    let project = read(&sources().join("android/pom.xml"))?;
    let version = |name: &str| {
        let line = catalog.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap_or_default();
        line.split('"').nth(1).unwrap_or_default().to_owned()
    };
    for (name, artifact) in [
        ("kotlin", "kotlin-compiler-embeddable"),
        ("coroutines", "kotlinx-coroutines-core-jvm"),
        ("coroutines", "kotlinx-coroutines-android"),
        ("jna", "jna"),
        ("junit", "junit"),
        ("robolectric", "robolectric"),
    ] {
        let expected =
            format!("<artifactId>{artifact}</artifactId>\n      <version>{}</version>", version(name));
        assert!(project.contains(&expected), "{artifact} is not {:?} in pom.xml", version(name));
    }
    Ok(())
}

fn repository() -> Utf8PathBuf {
    // Two up from tests/bindings.
    sources().ancestors().nth(2).map(Utf8Path::to_path_buf).unwrap_or_default()
}

fn android() -> Utf8PathBuf {
    repository().join("android")
}

/// The Kotlin of docs/android.md, one file per block, in packages of their own. Blocks begin with the file they belong into.
fn snippets(folder: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    let out = folder.join("snippets");
    fs::create_dir_all(&out).map_err(|source| Failure::File { path: out.clone(), source })?;
    let guide = read(&repository().join("docs/android.md"))?;
    let blocks: Vec<&str> =
        guide.split("\n```kotlin\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(blocks.len() >= 4, "docs/android.md has {} blocks of Kotlin", blocks.len());
    for (number, block) in blocks.iter().enumerate() {
        write(&out.join(format!("Snippet{number}.kt")), &format!("{block}\n"))?;
    }
    Ok(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Warnings {
    Allowed,
    Errors,
}

struct Toolchain {
    jvm: Jvm,
}

impl Toolchain {
    /// The toolchain, fetched if it isn't there yet.
    fn find() -> Result<Option<Self>, Failure> {
        Ok(Jvm::find(env!("CARGO_TARGET_TMPDIR"), "android")?.map(|jvm| Self { jvm }))
    }

    fn compile(
        &self,
        folders: &[&Utf8Path],
        classes: &[&Utf8Path],
        out: &Utf8Path,
        warnings: Warnings,
    ) -> Result<(), Failure> {
        let strict = if warnings == Warnings::Errors { "-Werror" } else { "-nowarn" };
        self.kotlin(folders, classes, out, &[strict])
    }

    /// With access to what is internal to the modules in `friends`.
    fn compile_friend(
        &self,
        folder: &Utf8Path,
        friends: &[&Utf8Path],
        classes: &[&Utf8Path],
        out: &Utf8Path,
    ) -> Result<(), Failure> {
        let paths: Vec<&str> = friends.iter().map(|path| path.as_str()).collect();
        let friendly = format!("-Xfriend-paths={}", paths.join(","));
        self.kotlin(&[folder], &[friends, classes].concat(), out, &["-Werror", &friendly])
    }

    fn kotlin(
        &self,
        folders: &[&Utf8Path],
        classes: &[&Utf8Path],
        out: &Utf8Path,
        options: &[&str],
    ) -> Result<(), Failure> {
        let mut files = Vec::new();
        for folder in folders {
            files.extend(kotlin_files(folder)?);
        }
        let options = [&["-jvm-target", "17"], options].concat();
        self.jvm.kotlin(&options, &self.class_path(classes), &files, out)
    }

    fn run_tests(
        &self,
        native: &Utf8Path,
        classes: &[&Utf8Path],
        server: &str,
        folder: &Utf8Path,
    ) -> Result<String, Failure> {
        // Where Robolectric looks for the classes that it runs.
        let instrumented =
            self.jvm.jars().iter().find(|jar| jar.as_str().contains("android-all-instrumented"));
        let dependencies = instrumented.and_then(|jar| jar.parent()).unwrap_or(folder);
        self.jvm
            .java()
            .arg("-Drobolectric.offline=true")
            // What Robolectric and Android's cleaner need of the JDK's insides.
            .args(["--add-opens", "java.base/java.io=ALL-UNNAMED"])
            .args(["--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"])
            .arg(format!("-Drobolectric.dependency.dir={dependencies}"))
            .arg(format!("-Djna.library.path={native}"))
            .arg(format!("-Dtuntrail.logserver={server}"))
            .args(["-cp", &self.class_path(classes), "org.junit.runner.JUnitCore"])
            .args(TEST_CLASSES.iter().map(|name| format!("tuntrail.android.{name}")))
            .run()
    }

    fn class_path(&self, first: &[&Utf8Path]) -> String {
        let jars = self.jvm.jars().iter().filter(|jar| !jar.as_str().contains("android-all-instrumented"));
        class_path_of(first.iter().copied().chain(jars.map(Utf8PathBuf::as_path)))
    }
}

fn kotlin_files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Failure> {
    let failed = |source| Failure::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in folder.read_dir_utf8().map_err(failed)? {
        let path = entry.map_err(failed)?.into_path();
        if path.is_dir() {
            files.extend(kotlin_files(&path)?);
        } else if path.extension() == Some("kt") {
            files.push(path);
        }
    }
    Ok(files)
}

fn copy_into(file: &Utf8Path, folder: &Utf8Path) -> Result<(), Failure> {
    let copy = folder.join(file.file_name().unwrap_or_default());
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(file, &copy))
        .map(drop)
        .map_err(|source| Failure::File { path: copy, source })
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::Program {
        command: "the log server".to_owned(),
        reason: error.to_string(),
        output: String::new(),
    }
}
