//! Java, and the jars of a Maven project, Kotlin's compiler among them.
//!
//! The jars come from Maven Central the first time and stay in Maven's own cache, where all tests find them.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{Failure, Program, read, search_path, skip, sources, write};

/// A Java runtime and the jars of a project.
#[derive(Debug)]
pub struct Jvm {
    java: Utf8PathBuf,
    jars: Vec<Utf8PathBuf>,
}

impl Jvm {
    /// Java and the jars of `project`, a folder of this crate with a `pom.xml`; those that are missing are fetched.
    /// `target` is a folder of the calling tests, the same for all of them. None, with a loud message, if something is
    /// missing.
    ///
    /// # Errors
    ///
    /// [`Failure::Toolchain`] where toolchains are required, [`Failure::File`].
    pub fn find(target: &str, project: &str) -> Result<Option<Self>, Failure> {
        let (Some(java), Some(maven)) = (search_path("java"), search_path("mvn")) else {
            skip(&format!("Java or Maven ({project})"), "apt-get install default-jdk-headless maven")?;
            return Ok(None);
        };
        let target = Utf8Path::new(target);
        let list = target.join(format!("{project}-class-path"));
        let pom = sources().join(project).join("pom.xml");
        let wanted = read(&pom)?;

        // Tests run side by side, and Maven's cache is not made for two writers: one fetches, the others wait.
        let lock = target.join("maven.lock");
        let failed = |source| Failure::File { path: lock.clone(), source };
        let held = File::create(&lock).map_err(failed)?;
        held.lock().map_err(failed)?;
        if let Some(jars) = listed(&list, &wanted) {
            return Ok(Some(Self { java, jars }));
        }
        let fetched = list.with_extension("new");
        let run = Program::new(maven)
            .args(["-q", "-B", "dependency:build-classpath"])
            .arg(format!("-Dmdep.outputFile={fetched}"))
            .arg("-f")
            .arg(&pom)
            .run();
        if let Err(error) = run {
            skip(&format!("a jar from Maven Central ({project})"), &error.to_string())?;
            return Ok(None);
        }
        write(&list, &format!("{}\n{wanted}", read(&fetched)?.trim()))?;
        Ok(listed(&list, &wanted).map(|jars| Self { java, jars }))
    }

    /// The jars.
    #[must_use]
    pub fn jars(&self) -> &[Utf8PathBuf] {
        &self.jars
    }

    /// A run of Java, with assertions on and UTF-8 as everywhere but in old versions on Windows.
    #[must_use]
    pub fn java(&self) -> Program {
        Program::new(&self.java).args(["-ea", "-Dfile.encoding=UTF-8"])
    }

    /// Compiles Kotlin files into the folder `out`. The compiler sees `class_path` and nothing else.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`] with what the compiler says.
    pub fn kotlin(
        &self,
        options: &[&str],
        class_path: &str,
        files: &[Utf8PathBuf],
        out: &Utf8Path,
    ) -> Result<(), Failure> {
        Program::new(&self.java)
            // A compiler that runs once needn't be optimised while it runs.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args(["-cp", &class_path_of(&self.jars), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"])
            .args(["-no-stdlib", "-no-reflect"])
            .args(options)
            .args(["-cp", class_path, "-d", out.as_str()])
            .args(files)
            .run()
            .map(drop)
    }
}

/// Folders and jars as Java takes them, on the systems that these tests run on.
pub fn class_path_of<P: AsRef<Utf8Path>>(paths: impl IntoIterator<Item = P>) -> String {
    let mut text = String::new();
    for path in paths {
        if !text.is_empty() {
            text.push(':');
        }
        text.push_str(path.as_ref().as_str());
    }
    text
}

/// The jars in `list`, if it was made from the project that is `wanted` and all of them are still there.
fn listed(list: &Utf8Path, wanted: &str) -> Option<Vec<Utf8PathBuf>> {
    let text = read(list).ok()?;
    let (jars, project) = text.split_once('\n')?;
    let jars: Vec<Utf8PathBuf> = jars.split(':').map(Utf8PathBuf::from).collect();
    (project == wanted && jars.iter().all(|jar| jar.is_file())).then_some(jars)
}
