//! A reverse proxy before the server: Debian's nginx, which holds the certificate and speaks plain HTTP to the server.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::process::Process;
use crate::server::{HTTPS_PORT, Server, listens};

/// Where the server behind the proxy listens, on its own host only.
const PLAIN_PORT: u16 = 8443;

/// How long nginx may take to listen.
const START_LIMIT: Duration = Duration::from_secs(5);

impl Server {
    /// Ends the server and starts it again behind nginx, which serves the same certificate: clients see the same URL
    /// and pin.
    ///
    /// # Errors
    /// When one of both does not start: is Debian's `nginx-light` installed?
    pub fn restart_behind_proxy(&self) -> Result<Process> {
        self.kill();
        let text = fs::read_to_string(self.config())
            .map_err(LabError::io(format!("read {}", self.config().display())))?;
        let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("listen =")).collect();
        let text = format!(
            "listen = \"127.0.0.1:{PLAIN_PORT}\"\ntls = false\ntrusted-proxies = [\"127.0.0.1\"]\n{}\n",
            others.join("\n")
        );
        fs::write(self.config(), text).map_err(LabError::io(format!("write {}", self.config().display())))?;
        self.start_on(PLAIN_PORT, &format!("http://127.0.0.1:{PLAIN_PORT}"))?;
        let nginx = self.shared().write("nginx.conf", &self.proxy_config())?.display().to_string();
        let process =
            self.shared().spawn(self.namespace(), "nginx", Path::new("nginx"), &["-c", &nginx], &[])?;
        wait_for("nginx to listen", START_LIMIT, || {
            if let Some(status) = process.exited() {
                return Err(LabError::unexpected(format!("nginx ended with {status}: {}", process.log())));
            }
            Ok(listens(&process, HTTPS_PORT).then_some(()))
        })?;
        Ok(process)
    }

    /// As docs/OPERATING.md says, with everything that nginx writes in the lab's directory.
    fn proxy_config(&self) -> String {
        let dir = self.shared().file("nginx");
        let certificate = self.certificate();
        let (dir, certificate) = (dir.display(), certificate.display());
        format!(
            "daemon off; master_process off; pid {dir}.pid; error_log stderr info;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {dir}-body; proxy_temp_path {dir}-proxy; fastcgi_temp_path {dir}-fastcgi;
                uwsgi_temp_path {dir}-uwsgi; scgi_temp_path {dir}-scgi;
                server {{
                    listen {HTTPS_PORT} ssl;
                    listen [::]:{HTTPS_PORT} ssl;
                    ssl_certificate {certificate};
                    ssl_certificate_key {certificate};
                    location / {{
                        proxy_pass http://127.0.0.1:{PLAIN_PORT};
                        proxy_http_version 1.1;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection \"upgrade\";
                        proxy_set_header Host $host;
                        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                        proxy_read_timeout 300s;
                        proxy_send_timeout 300s;
                    }}
                }}
            }}\n"
        )
    }
}
