//! Mono: compiles C# at the language level that the bindings promise, and runs it.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{Failure, Program, search_path, skip};

/// Mono's compiler and runtime.
#[derive(Debug)]
pub struct Mono {
    compiler: Utf8PathBuf,
    runtime: Utf8PathBuf,
}

impl Mono {
    /// Looks for both. None, with a loud message, if one is missing.
    ///
    /// # Errors
    ///
    /// [`Failure::Toolchain`] where toolchains are required.
    pub fn find() -> Result<Option<Self>, Failure> {
        match (search_path("mcs"), search_path("mono")) {
            (Some(compiler), Some(runtime)) => Ok(Some(Self { compiler, runtime })),
            _ => {
                skip("Mono (C#)", "apt-get install mono-mcs mono-runtime libmono-system-core4.0-cil")?;
                Ok(None)
            }
        }
    }

    /// Compiles `caller.exe` in `folder`, with every warning on and none allowed.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`] with what the compiler says.
    pub fn compile(&self, folder: &Utf8Path, files: &[Utf8PathBuf]) -> Result<Utf8PathBuf, Failure> {
        self.compile_as(&folder.join("caller.exe"), &[], files)
    }

    /// Compiles `program`, in the same way, with further options.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`] with what the compiler says.
    pub fn compile_as(
        &self,
        program: &Utf8Path,
        options: &[&str],
        files: &[Utf8PathBuf],
    ) -> Result<Utf8PathBuf, Failure> {
        Program::new(&self.compiler)
            .args(["-langversion:7", "-warn:4", "-warnaserror", "-checked+"])
            .arg(format!("-out:{program}"))
            // Reads the comments too, and warns of references to nothing.
            .arg(format!("-doc:{}", program.with_extension("xml")))
            .args(options)
            .args(files)
            .run()?;
        Ok(program.to_owned())
    }

    /// Runs a program, which finds libraries in its own folder.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`] with what it printed, if it fails.
    pub fn run(&self, program: &Utf8Path, arguments: &[&str]) -> Result<String, Failure> {
        self.run_with(program, arguments, &[])
    }

    /// Runs a program with further environment variables.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`] with what it printed, if it fails.
    pub fn run_with(
        &self,
        program: &Utf8Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<String, Failure> {
        let mut run = Program::new(&self.runtime)
            .arg("--debug")
            .arg(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", program.parent().unwrap_or(program));
        for (name, value) in variables {
            run = run.env(name, value);
        }
        run.run()
    }
}
