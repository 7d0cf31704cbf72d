//! The Kotlin bindings, compiled for and run on the JVM with JNA, as on Android but for Android's own classes.
//!
//! The compiler and JNA come as jars from Maven Central the first time and stay in the target folder.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Program, SCENARIOS, SDK_STEPS, all_of, bindings, fresh_folder, read, sdk_bindings, search_path,
    skip, sources, write,
};

#[test]
fn the_fixture_keeps_its_promises_in_kotlin() -> Result<(), Failure> {
    let Some(toolchain) = Kotlin::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "kotlin")?;
    bindings("tuntrail_ffi_fixture", Language::Kotlin, &folder)?;
    let classes = toolchain
        .compile(&folder, &[folder.join("uniffi/fixture/fixture.kt"), sources().join("kotlin/Caller.kt")])?;
    all_of(SCENARIOS, &toolchain.run(&folder, &classes, &["CallerKt"])?)
}

#[test]
fn the_sdk_goes_through_all_steps_in_kotlin() -> Result<(), Failure> {
    let Some(toolchain) = Kotlin::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "kotlin-sdk")?;
    sdk_bindings(Language::Kotlin, &folder)?;
    let caller = sources().join("kotlin");
    let classes = toolchain.compile(
        &folder,
        &[
            folder.join("tuntrail/tuntrail_ffi.kt"),
            folder.join("uniffi/testpeer/testpeer.kt"),
            caller.join("Sdk.kt"),
            caller.join("SdkApp.kt"),
            caller.join("SdkUploads.kt"),
        ],
    )?;
    let records = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "kotlin-sdk/records")?;
    all_of(SDK_STEPS, &toolchain.run(&folder, &classes, &["SdkKt", records.as_str()])?)
}

struct Kotlin {
    java: Utf8PathBuf,
    jars: Vec<Utf8PathBuf>,
}

impl Kotlin {
    /// The toolchain, fetched if it isn't there yet.
    fn find() -> Result<Option<Self>, Failure> {
        let (Some(java), Some(maven)) = (search_path("java"), search_path("mvn")) else {
            skip("Java or Maven (Kotlin)", "apt-get install default-jdk-headless maven")?;
            return Ok(None);
        };
        let project = sources().join("kotlin/pom.xml");
        let folder = Utf8Path::new(env!("CARGO_TARGET_TMPDIR")).join("kotlin-toolchain");
        // Written last, so that a fetch which was broken off, or an older list, is not taken for a whole one.
        let complete = folder.join("pom.xml");
        let wanted = read(&project)?;
        if read(&complete).ok().as_ref() != Some(&wanted) {
            let fetched = Program::new(maven)
                .args(["-q", "-B", "dependency:copy-dependencies"])
                .arg(format!("-DoutputDirectory={folder}"))
                .arg("-f")
                .arg(&project)
                .run();
            if let Err(error) = fetched {
                skip("the Kotlin compiler from Maven Central", &error.to_string())?;
                return Ok(None);
            }
            write(&complete, &wanted)?;
        }
        let file = |source| Failure::File { path: folder.clone(), source };
        let mut jars = Vec::new();
        for entry in folder.read_dir_utf8().map_err(file)? {
            let path = entry.map_err(file)?.into_path();
            if path.extension() == Some("jar") {
                jars.push(path);
            }
        }
        Ok(Some(Self { java, jars }))
    }

    fn compile(&self, folder: &Utf8Path, files: &[Utf8PathBuf]) -> Result<Utf8PathBuf, Failure> {
        let classes = folder.join("classes");
        fs::create_dir_all(&classes).map_err(|source| Failure::File { path: classes.clone(), source })?;
        Program::new(&self.java)
            // A compiler that runs once needn't be optimised while it runs.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args(["-cp", &self.class_path(""), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"])
            // Warnings in generated code are UniFFI's affair.
            .args(["-nowarn", "-no-stdlib", "-no-reflect", "-jvm-target", "11"])
            .args(["-cp", &self.class_path(""), "-d", classes.as_str()])
            .args(files)
            .run()?;
        Ok(classes)
    }

    fn run(&self, folder: &Utf8Path, classes: &Utf8Path, main: &[&str]) -> Result<String, Failure> {
        Program::new(&self.java)
            // A heap that is in RAM from the beginning and no optimising compiler: what grows then is not the JVM's.
            .args([
                "-Xms64m",
                "-Xmx64m",
                "-XX:+AlwaysPreTouch",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
            ])
            .args(["-ea", "-Dfile.encoding=UTF-8"])
            .arg(format!("-Djna.library.path={folder}"))
            .args(["-cp", &self.class_path(classes.as_str())])
            .args(main)
            .run()
    }

    fn class_path(&self, first: &str) -> String {
        let jars = self.jars.iter().map(|jar| jar.as_str());
        let parts: Vec<&str> = [first].into_iter().filter(|part| !part.is_empty()).chain(jars).collect();
        // The separator of the systems these tests run on.
        parts.join(":")
    }
}
