//! What records with secrets print, in Rust and, through [`fmt::Display`], in every other language: what they are about, without the
//! secrets.
//!
//! Every field is named here, so that a new one does not compile until somebody has decided what it is.

use std::fmt;

use crate::{ClientConfig, Header, Peer, TunnelConfig, UploadSettings, UploadTask};

/// In place of a value that must not be read by those who read logs.
struct Hidden;

impl Hidden {
    /// In place of one that may be there.
    fn some<T>(value: Option<&T>) -> Option<Self> {
        value.map(|_| Self)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            directory,
            base_url,
            consent,
            role,
            uploads,
            max_disk_bytes,
            private_id,
            copy_id,
            log_filter,
            app_version,
            // No secrets, but much code to print them, in a library whose size counts.
            flows: _,
            sessions: _,
            socket_stats_always: _,
            collections: _,
            remote_commands: _,
        } = self;
        // One with more than a path is refused, but may be printed before: it may hold a password.
        let base_url: &dyn fmt::Debug = if base_url.contains(['@', '?', '#']) { &Hidden } else { base_url };
        f.debug_struct("ClientConfig")
            .field("directory", directory)
            .field("base_url", base_url)
            .field("consent", consent)
            .field("role", role)
            .field("uploads", uploads)
            .field("max_disk_bytes", max_disk_bytes)
            .field("private_id", &Hidden::some(private_id.as_ref()))
            .field("copy_id", &Hidden::some(copy_id.as_ref()))
            .field("log_filter", log_filter)
            .field("app_version", app_version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UploadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            headers,
            host_transport,
            low_memory,
            // As above.
            root_certificates_pem: _,
            connect_timeout: _,
            request_timeout: _,
            automatic: _,
        } = self;
        f.debug_struct("UploadSettings")
            .field("headers", headers)
            .field("host_transport", host_transport)
            .field("low_memory", low_memory)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value: _ } = self;
        f.debug_struct("Header").field("name", name).field("value", &Hidden).finish()
    }
}

impl fmt::Debug for TunnelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { private_key: _, addresses, peers, listen_port, mtu, dns, search_domains, fw_mark } = self;
        f.debug_struct("TunnelConfig")
            .field("private_key", &Hidden)
            .field("addresses", addresses)
            .field("peers", peers)
            .field("listen_port", listen_port)
            .field("mtu", mtu)
            .field("dns", dns)
            .field("search_domains", search_domains)
            .field("fw_mark", fw_mark)
            .finish()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public_key, allowed_ips, endpoint, preshared_key, persistent_keepalive } = self;
        f.debug_struct("Peer")
            .field("public_key", public_key)
            .field("allowed_ips", allowed_ips)
            .field("endpoint", endpoint)
            .field("preshared_key", &Hidden::some(preshared_key.as_ref()))
            .field("persistent_keepalive", persistent_keepalive)
            .finish()
    }
}

impl fmt::Debug for UploadTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { id, url: _, headers, body } => f
                .debug_struct("Send")
                .field("id", id)
                .field("url", &Hidden)
                .field("headers", headers)
                .field("body", &format_args!("{} bytes", body.len()))
                .finish(),
            Self::Wait { after } => write!(f, "Wait {{ seconds: {} }}", after.as_secs()),
            Self::Done => f.write_str("Done"),
        }
    }
}

macro_rules! display_as_debug {
    ($($record:ty),+) => {$(
        impl fmt::Display for $record {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )+};
}

display_as_debug!(ClientConfig, UploadSettings, Header, TunnelConfig, Peer, UploadTask);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Consent;

    const SECRET: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    #[test]
    fn a_configuration_prints_what_it_is_about_without_its_secrets() {
        let config = ClientConfig {
            directory: "/data/logs".to_owned(),
            base_url: "https://logs.example.com".to_owned(),
            consent: Consent::Granted,
            role: None,
            flows: None,
            sessions: None,
            uploads: Some(UploadSettings {
                headers: vec![Header { name: "Authorization".to_owned(), value: SECRET.to_owned() }],
                root_certificates_pem: Some("-----BEGIN".to_owned()),
                connect_timeout: Some(Duration::from_secs(30)),
                request_timeout: None,
                automatic: None,
                host_transport: false,
                low_memory: true,
            }),
            socket_stats_always: false,
            max_disk_bytes: None,
            collections: None,
            private_id: Some(SECRET.to_owned()),
            copy_id: Some(SECRET.to_owned()),
            log_filter: "info".to_owned(),
            app_version: Some("Example VPN 3.2".to_owned()),
            remote_commands: None,
        };
        let text = config.to_string();
        for part in
            ["/data/logs", "https://logs.example.com", "Granted", "Authorization", "low_memory: true", "3.2"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.matches("hidden").count(), 3, "{text}");
        assert!(!text.contains(SECRET) && !text.contains("BEGIN"), "{text}");
        for wrong in ["https://user:secret@logs.example.com", "https://logs.example.com/?key=secret"] {
            let text = ClientConfig { base_url: wrong.to_owned(), ..config.clone() }.to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_tunnel_prints_everything_but_its_keys() {
        let config = TunnelConfig {
            private_key: SECRET.to_owned(),
            addresses: vec!["10.0.0.2/24".to_owned()],
            peers: vec![Peer {
                public_key: "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=".to_owned(),
                allowed_ips: vec!["0.0.0.0/0".to_owned()],
                endpoint: Some("vpn.example.com:51820".to_owned()),
                preshared_key: Some(SECRET.to_owned()),
                persistent_keepalive: Some(25),
            }],
            listen_port: None,
            mtu: Some(1280),
            dns: vec!["10.0.0.53".to_owned()],
            search_domains: Vec::new(),
            fw_mark: None,
        };
        let text = config.to_string();
        for part in ["10.0.0.2/24", "3p7bfXt9", "0.0.0.0/0", "vpn.example.com:51820", "1280", "10.0.0.53"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains(SECRET), "{text}");
    }

    #[test]
    fn a_task_prints_neither_url_nor_header_values_nor_body() {
        let task = UploadTask::Send {
            id: 7,
            url: format!("https://logs.example.com/c/windows/{SECRET}"),
            headers: vec![Header { name: "Authorization".to_owned(), value: SECRET.to_owned() }],
            body: SECRET.as_bytes().to_vec(),
        };
        let text = task.to_string();
        assert!(text.contains("id: 7") && text.contains("44 bytes"), "{text}");
        assert!(!text.contains(SECRET) && !text.contains("logs.example.com"), "{text}");
        assert_eq!(UploadTask::Done.to_string(), "Done");
    }
}
