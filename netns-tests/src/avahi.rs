//! Avahi: somebody else's multicast DNS, to see what a host announces, and to announce something to it.

use std::path::Path;
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::Result;
use crate::host::Host;

/// How long the bus and the daemon may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running `avahi-daemon` on a host.
#[derive(Debug)]
pub struct Avahi {
    host: Host,
    bus: String,
}

impl Host {
    /// Starts `avahi-daemon` with a message bus of its own.
    ///
    /// # Errors
    /// When one of them does not start: they are of Debian's packages `avahi-daemon`, `avahi-utils` and `dbus`.
    pub fn avahi(&self) -> Result<Avahi> {
        let file = |name: &str| format!("{}-{name}", self.label);
        let socket = self.shared.file(&file("bus"));
        let bus_config = self.shared.write(
            &file("bus.conf"),
            &format!(
                "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
                 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
                 <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
                 <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/>\
                 <allow send_type=\"method_call\"/><allow receive_type=\"*\"/></policy></busconfig>\n",
                socket.display()
            ),
        )?;
        let bus_config = format!("--config-file={}", bus_config.display());
        self.spawn("dbus", Path::new("dbus-daemon"), &[&bus_config, "--nofork", "--nopidfile"], &[])?;
        wait_for("the message bus", START_LIMIT, || Ok(socket.exists().then_some(())))?;

        let config = self.shared.write(&file("avahi.conf"), "[server]\nhost-name=observer\n")?;
        let bus = format!("unix:path={}", socket.display());
        // It keeps its pid in /run, which is the whole machine's but for this program.
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && \
             exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f {}",
            config.display()
        );
        let env = [("DBUS_SYSTEM_BUS_ADDRESS", bus.as_str())];
        let daemon = self.spawn("avahi", Path::new("sh"), &["-c", &script], &env)?;
        daemon.wait_log("Server startup complete", START_LIMIT)?;
        Ok(Avahi { host: self.clone(), bus })
    }
}

impl Avahi {
    /// Announces a service of this host until the lab ends.
    ///
    /// # Errors
    /// When `avahi-publish` cannot be started, or does not say that it is announced.
    pub fn publish(&self, name: &str, service_type: &str, port: u16) -> Result<()> {
        let env = [("DBUS_SYSTEM_BUS_ADDRESS", self.bus.as_str())];
        let args = ["-s", name, service_type, &port.to_string()];
        let publish = self.host.spawn("avahi-publish", Path::new("avahi-publish"), &args, &env)?;
        publish.wait_log("Established under name", START_LIMIT)
    }

    /// What `avahi-browse -rt TYPE` prints, one line for each thing that was found or resolved (`-p`).
    ///
    /// # Errors
    /// When it fails.
    pub fn browse(&self, service_type: &str) -> Result<String> {
        let address = format!("DBUS_SYSTEM_BUS_ADDRESS={}", self.bus);
        self.host.run(&["env", &address, "timeout", "20", "avahi-browse", "-rtp", service_type])
    }
}
