//! Keys for transport encryption, named like RocketMQ's system properties. Shared by broker and name server.
//!
//! This version has no TLS. What merely describes certificates is accepted; what would promise encryption is
//! refused, because serving in the clear where it was ordered would be worse than not serving.

use crate::settings;

crate::choices! {
    /// Whether clients must speak TLS.
    pub enum TlsMode {
        /// Never.
        Disabled = "disabled",
        /// As the client likes.
        Permissive = "permissive",
        /// Always.
        Enforcing = "enforcing",
    }
}

crate::choices! {
    /// Whether clients must show a certificate.
    pub enum ClientCertificate {
        /// It is not asked for.
        None = "none",
        /// It is checked if there is one.
        Optional = "optional",
        /// Without it the connection is refused.
        Require = "require",
    }
}

const NO_TLS: &str = "this version serves no TLS";

settings! {
    /// Transport encryption.
    pub struct TlsSettings |host| {
        section "TLS";
        /// disabled, permissive or enforcing.
        server_mode: TlsMode = TlsMode::Permissive, "tls.server.mode" [.check(not_enforcing).without_effect(NO_TLS)];
        /// TLS for outgoing calls.
        enable: bool = false, "tls.enable" [.only("false", NO_TLS)];
        /// File with the keys of this section.
        config_file: String = "/etc/rocketmq/tls.properties".into(), "tls.config.file" [.without_effect(NO_TLS)];
        /// A self-signed certificate and no verification.
        test_mode_enable: bool = true, "tls.test.mode.enable" [.without_effect(NO_TLS)];
        /// none, optional or require.
        server_need_client_auth: ClientCertificate = ClientCertificate::None, "tls.server.need.client.auth"
            [.without_effect(NO_TLS)];
        /// Private key of the server.
        server_key_path: Option<String> = None, "tls.server.keyPath" [.without_effect(NO_TLS)];
        /// Password of the private key of the server.
        server_key_password: Option<String> = None, "tls.server.keyPassword" [.without_effect(NO_TLS).secret()];
        /// Certificate of the server.
        server_cert_path: Option<String> = None, "tls.server.certPath" [.without_effect(NO_TLS)];
        /// Verifies certificates of clients.
        server_auth_client: bool = false, "tls.server.authClient" [.without_effect(NO_TLS)];
        /// Authority that signed certificates of clients.
        server_trust_cert_path: Option<String> = None, "tls.server.trustCertPath" [.without_effect(NO_TLS)];
        /// Private key for outgoing calls.
        client_key_path: Option<String> = None, "tls.client.keyPath" [.without_effect(NO_TLS)];
        /// Password of the private key for outgoing calls.
        client_key_password: Option<String> = None, "tls.client.keyPassword" [.without_effect(NO_TLS).secret()];
        /// Certificate for outgoing calls.
        client_cert_path: Option<String> = None, "tls.client.certPath" [.without_effect(NO_TLS)];
        /// Verifies the server in outgoing calls.
        client_auth_server: bool = false, "tls.client.authServer" [.without_effect(NO_TLS)];
        /// Authority that signed certificates of servers.
        client_trust_cert_path: Option<String> = None, "tls.client.trustCertPath" [.without_effect(NO_TLS)];
    }
}

fn not_enforcing(text: &str) -> Result<(), &'static str> {
    match text {
        "enforcing" => Err("disabled or permissive (this version serves no TLS)"),
        _ => Ok(()),
    }
}
