import ClusterBase
package import CommandSyntax

extension AgentSettings {
    /// All settings, by section. Files, variables, flags, help and documentation come from here.
    package static let table: [Setting] = [
        Setting(
            "node.name", .name(\.nodeName, isOptional: false), "the node's name, unique in its cluster; the host's"),
        Setting("node.data", .directory(\.dataDirectory), "where everything durable of this node lies"),
        Setting("node.region", .name(\.region, isOptional: true), "the region it stands in"),
        Setting("node.zone", .name(\.zone, isOptional: true), "the zone within the region: what fails together"),
        Setting("node.rack", .name(\.rack, isOptional: true), "the rack within the zone"),
        Setting("node.labels", .labels(\.labels), "what placement rules may ask for"),
        Setting(
            "node.priority", .integer(\.priority, 0...19),
            "by how many steps of niceness this program's beats and log writes, and its guard, come before other work; wants "
                + "the right to it, and a guard that runs keeps what it began with"
        ),
        Setting(
            "node.feature-level", .integer(\.featureLevel, 0...1_000),
            "act like a program that knows feature levels up to this, to rehearse an upgrade; 0 is all that it knows"),
        Setting("peer.listen", .endpoint(\.peerListen), "where other nodes connect"),
        Setting(
            "peer.advertise", .optionalEndpoint(\.peerAdvertise),
            "what other nodes are told to connect to, if not where it listens"),
        Setting(
            "peer.bulk-rate", .size(\.bulkBytesPerSecond, (1 << 20)...(1 << 37)),
            "bytes per second that snapshots and migrations may take"),
        Setting("admin.listen", .endpoint(\.adminListen), "where the command line and programs connect"),
        Setting(
            "admin.advertise", .optionalEndpoint(\.adminAdvertise),
            "what the others are told to connect to, if not where it listens"),
        Setting("admin.open-metrics", .boolean(\.metricsAreOpen), "let everybody read /metrics"),
        Setting(
            "admin.request-rate", .integer(\.requestRate, 1...10_000_000),
            "requests per second that one client, known by its certificate or token, may send to this node; more get 429"
        ),
        Setting(
            "admin.stranger-rate", .integer(\.strangerRate, 1...10_000_000),
            "the same for one address without a certificate or token"),
        Setting(
            "admin.drain-time", .duration(\.drainTime, .zero...(.seconds(300))),
            "what requests get to finish when the agent stops"),
        Setting("log.level", .logLevel, "how much is logged"),
        Setting("log.format", .logFormat, "text for people, json for programs"),
        Setting(
            "storage.low-space", .size(\.lowSpaceBytes, 0...(1 << 40)),
            "below this much free space, clients' writes are refused; by default 1 GiB, or 5 % of a disk where that is less"
        ),
        Setting("storage.cache", .size(\.cacheBytes, (1 << 20)...(1 << 37)), "memory for recently read blocks"),
        Setting(
            "storage.flush-interval", .duration(\.flushInterval, .seconds(1)...(.seconds(3_600))),
            "how long applied state may wait to be made durable, which a restart replays from the log"),
        Setting(
            "storage.flush-entries", .integer(\.flushEntries, 100...10_000_000),
            "how many applied entries may wait for the same"),
        Setting(
            "storage.trailing-entries", .integer(\.trailingEntries, 0...10_000_000),
            "log entries kept for followers that were away, so that they need no snapshot"),
        Setting(
            "backup.time-limit", .duration(\.backupTimeMax, .seconds(1)...(.seconds(604_800))),
            "a backup by schedule that takes longer is ended, counts as failed, and lets the other schedules go on"),
        Setting(
            "snapshot.outgoing-max", .integer(\.snapshotsOutgoingMax, 1...64), "snapshots that are sent at once"),
        Setting(
            "liveness.beat-interval", .duration(\.beatInterval, .milliseconds(5)...(.seconds(1))),
            "how often nodes tell each other that they live; the same on all nodes"),
        Setting(
            "liveness.rest-interval", .duration(\.restInterval, .zero...(.seconds(10))),
            "the same between nodes that have no work, but at least a beat and at most suspicion-max; 0 for no difference"
        ),
        Setting(
            "liveness.suspicion-floor", .duration(\.suspicionFloor, .milliseconds(15)...(.seconds(10))),
            "the shortest silence that can start an election, at least three beats"),
        Setting(
            "liveness.suspicion-max", .duration(\.suspicionMax, .milliseconds(50)...(.seconds(60))),
            "the longest silence that is forgiven, however irregular the network is"),
        Setting(
            "liveness.closed-link-grace", .duration(\.closedLinkGrace, .zero...(.seconds(10))),
            "what a node gets to connect again after its connection closed"),
        Setting(
            "liveness.storage-stall", .duration(\.storageStallMax, .milliseconds(100)...(.seconds(60))),
            "a disk that takes longer than this for a write, or a quarter of it where it is quick else, makes its node give up "
                + "leading"),
        Setting(
            "liveness.engine-stall", .duration(\.engineStallMax, .milliseconds(100)...(.seconds(60))),
            "the same for a processor that does not get around to it"),
        Setting(
            "host.cpu-millis", .integer(\.hostCPUMillis, 0...100_000_000),
            "thousandths of cores that VMs may take; 0 is what the machine has"),
        Setting(
            "host.memory", .size(\.hostMemoryBytes, 0...(1 << 50)),
            "memory that VMs may take; 0 is what the machine has"),
        Setting(
            "host.disk", .size(\.hostDiskBytes, 0...(1 << 58)),
            "room for VMs' local disks; 0 is the size of the file system of hypervisor.directory"),
        Setting(
            "host.network-mbps", .integer(\.hostNetworkMbps, 0...100_000_000),
            "network bandwidth for VMs in Mbit/s; 0 is that of the fastest interface, or 1000"),
        Setting(
            "host.numa-nodes", .integer(\.hostNUMANodes, 0...8),
            "NUMA nodes that share CPUs and memory evenly; 0 is what the machine has"),
        Setting(
            "host.devices", .names(\.hostDevices, areUnique: false), "the kind of each device for VMs, such as gpu"),
        Setting(
            "host.storage-domains", .names(\.storageDomains, areUnique: true),
            "storage whose shared disks this host can open"),
        Setting(
            "host.networks", .names(\.networks, areUnique: true),
            "networks that VMs can be on here, beside those of hypervisor.bridges"),
        Setting(
            "host.watchdog", .optionalPath(\.watchdog),
            "a hardware watchdog such as /dev/watchdog, for this alone: it resets the host if guests outlive their lease"
        ),
        Setting("hypervisor.driver", .hypervisor, "what runs the VMs"),
        Setting("hypervisor.bridges", .labels(\.bridges), "networks that are bridges of this host, as network=bridge"),
        Setting(
            "hypervisor.directory", .optionalPath(\.vmDirectory),
            "where running VMs and their local disks lie; empty is vms in node.data"),
        Setting("hypervisor.images", .directory(\.imageDirectory), "where disk images and kernels for VMs lie"),
        Setting(
            "hypervisor.image-cache", .size(\.imageCacheBytes, (1 << 20)...(1 << 50)),
            "room in node.data for images that were added with `muster image add`"),
        Setting(
            "hypervisor.storage", .directory(\.storageDirectory),
            "where storage domains are mounted, each in a directory of its name"),
        Setting(
            "hypervisor.user", .name(\.guestUser, isOptional: true),
            "whom QEMU runs as: a user, or as FIRST-LAST one of so many user numbers for each VM; the same on all hosts of a cell. "
                + "Empty is the agent's own user"),
    ]

    /// The settings as options of a command.
    package static var options: [Option] { table.map(\.option) }

    /// What the options of an invocation say, as `load` takes it. The command must have declared `options`.
    package static func flags(of invocation: Invocation) -> [(key: String, text: String)] {
        table.compactMap { setting in
            let texts = invocation.texts(setting.flag)
            guard let last = texts.last else { return nil }
            return (setting.key, setting.option.isRepeated ? texts.joined(separator: ",") : last)
        }
    }

    /// A configuration file with every setting at its default, as comments.
    package static var exampleFile: String {
        let defaults = AgentSettings()
        var text = "# Muster's agent. A line that begins with # is a comment; what is written here are the defaults.\n"
        var section = ""
        for setting in table {
            if setting.section != section {
                section = setting.section
                text += "\n[\(section)]\n"
            }
            text += "# \(setting.help): \(setting.range)\n# \(setting.name) = \(setting.text(in: defaults))\n"
        }
        return text
    }

    /// A Markdown table of all settings.
    package static var documentation: String {
        let defaults = AgentSettings()
        var text = "| setting | default | may be | what it does | variable |\n| --- | --- | --- | --- | --- |\n"
        for setting in table {
            text += "| `\(setting.key)` | `\(setting.text(in: defaults))` | \(setting.range) | \(setting.help) | "
            text += "`\(setting.variable)` |\n"
        }
        return text
    }
}
