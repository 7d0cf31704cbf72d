//! Certificates for `localhost`, made with openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::run;

/// A certificate with its key, and the root that it leads to.
pub(crate) struct Certificate {
    pub(crate) root_pem: Vec<u8>,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes one in `folder`, good for a day.
    pub(crate) fn make(folder: &Path) -> Self {
        let openssl = |line: &str| run(Command::new("openssl").current_dir(folder).args(line.split(' ')));
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("req -x509 {key} -keyout root.key -out root.pem -subj /CN=test-root -days 1"));
        openssl(&format!("req -new {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"));
        fs::write(folder.join("leaf.ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
            .unwrap();
        openssl(
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -out leaf.pem -days 1 -extfile leaf.ext",
        );
        Self {
            root_pem: fs::read(folder.join("root.pem")).unwrap(),
            chain: folder.join("leaf.pem"),
            key: folder.join("leaf.key"),
        }
    }
}
