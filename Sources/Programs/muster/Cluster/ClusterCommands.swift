import AdminAPI
import AgentConfig
import ClusterBase
import CommandSyntax
import FleetCommands

/// Everything that the program can do with a cluster, as the help shows it.
enum ClusterCommands {
    static let table = CommandTable(
        program: "muster",
        about: """
            Muster turns hosts into one fleet: every host runs the same agent, and the agents agree through their own Raft
            groups. `muster init` begins a cluster, `muster join` adds a host, `muster agent` runs it.
            """,
        options: [
            Option(
                "address", .text("HOST:PORT"), isRepeated: true, variable: "MUSTER_ADDRESS",
                help: "a node's admin port; may be repeated, the next is asked when one can't be reached or is lost"),
            Option(
                "identity", .text("DIR"), variable: "MUSTER_IDENTITY",
                help: "a folder with cert.pem, key.pem, ca.pem and address, as `muster init` makes it"),
            Option("token", .text("TOKEN"), variable: "MUSTER_TOKEN", help: "an API token instead of a certificate"),
            Option(
                "context", .text("NAME"), variable: "MUSTER_CONTEXT",
                help: "a cluster from `muster context list`, instead of --identity and --address"),
            Option(
                "output", .choice(OutputFormat.allCases.map(\.rawValue)), letter: "o",
                help: "how to print answers (default table)"),
            Option(
                "timeout", .duration(.milliseconds(100)...(.seconds(600))),
                help: "how long to wait for an answer (default 10s)"),
        ],
        commands: FleetTable.commands + node + cluster + settings + backups + spaces + keys + locks + tools,
        topics: HelpTopics.all)

    private static let node: [Command] = [
        Command(
            "init", summary: "begin a cluster with this host as its first node",
            details: """
                Makes the cluster's authority, this node's key and certificate, the first operator's certificate and the root
                group, then runs the agent. Nothing is changed if something is in the way.
                """,
            options: configOptions + [
                Option("cluster-name", .text("NAME"), help: "what people call the cluster (default muster)"),
                Option("start", help: "run the agent afterwards (default; --no-start leaves it)"),
            ],
            examples: [
                .init("muster init --peer-listen 10.0.0.1:7471 --admin-listen 10.0.0.1:7470", "on the first host")
            ]),
        Command(
            "join", summary: "add this host to a cluster",
            details: """
                Checks everything first and changes nothing if it fails; may be repeated. While it checks, this host answers at
                its addresses with the key that it joins with, and every member that the token names looks whether it does.
                The key is made here and never leaves this host. `muster agent` runs the node afterwards. A host whose disk is
                gone comes back as a new node: `muster node remove NAME`, then join again.
                """,
            arguments: [Argument("TOKEN", help: "from `muster token create`")],
            options: configOptions + [Option("start", help: "run the agent afterwards")],
            examples: [
                .init("muster join mst1_… --peer-listen 10.0.0.2:7471 --admin-listen 10.0.0.2:7470", "on another host")
            ]),
        Command(
            "agent", summary: "run this host's node",
            options: configOptions + [
                Option("check-config", help: "print the settings and where each comes from, then end"),
                Option("example-config", help: "print a configuration file of all settings, then end"),
                Option("supervise", help: "start the agent again when it ends for its storage"),
            ],
            examples: [
                .init("muster agent --config /etc/muster.toml", "what the systemd unit runs"),
                .init("muster agent --example-config", "a file to begin with"),
            ]),
    ]

    private static let configOptions =
        [Option("config", .text("FILE"), variable: "MUSTER_CONFIG", help: "the configuration file")]
        + AgentSettings.options

    private static let cluster: [Command] = [
        Command(
            "status", summary: "show the groups of a node, who leads them, alarms, and moves that cells propose",
            details: """
                It is shown within a second or two though the root does not answer: then CURRENT is no, and the first alarm says how
                old it is. ADVICE has what cells with the setting rebalance=advice propose.
                """,
            examples: [.init("muster status --address 10.0.0.2:7470", "as that node sees it")]),
        Command(
            "node list", summary: "list the nodes",
            options: [
                Option(
                    "stale", .duration(.milliseconds(1)...(.seconds(3_600))),
                    help: "what the asked node knew this long ago is good enough, also while the root has no quorum")
            ],
            examples: [
                .init("muster node list -o json", "for a script"),
                .init("muster node list --stale 10m", "though the root does not answer"),
            ]),
        Command(
            "node show", summary: "show a node", arguments: [Argument("NODE", help: "its name or number")],
            examples: [.init("muster node show n2", "")]),
        Command(
            "node remove", summary: "take a node out of the cluster for good",
            arguments: [Argument("NODE", help: "its name or number")],
            options: [Option("force", help: "even if it holds the only copy of something")],
            examples: [.init("muster node remove n3", "its certificate is refused from then on")]),
        Command(
            "node promote", summary: "let a node vote in the root group when it can",
            arguments: [Argument("NODE", help: "its name or number")],
            examples: [.init("muster node promote n4", "it votes rather than others")]),
        Command(
            "node demote", summary: "let a node vote no more when another can",
            arguments: [Argument("NODE", help: "its name or number")],
            examples: [.init("muster node demote n1", "before its host is taken away for a while")]),
        Command(
            "token create", summary: "make a token to join with, or an API token",
            details: """
                With --role it is a token for programs that ask the admin port. One for a tenant or a space is made when that is
                there, and ends when that is deleted: made again under the same name it is not reached by old tokens.
                """,
            options: [
                Option(
                    "role", .text("ROLE"),
                    help: "make an API token: admin, operator, viewer, or space:NAME:read|write, tenant:NAME:read|write"
                ),
                Option("uses", .integer(1...10_000), help: "how many hosts may join with it (default 1)"),
                Option(
                    "expires", .duration(.seconds(60)...(.seconds(31_536_000))),
                    help: "for how long it is good (default 3h; with --role for ever)"),
                Option("note", .text("TEXT"), help: "what it is for, of one to join with"),
            ],
            examples: [
                .init("muster token create --uses 2", "two hosts may join with it"),
                .init("muster token create --role space:config:read", "for a program that reads that space's keys"),
            ]),
        Command(
            "token list", summary: "list tokens, without their secrets", examples: [.init("muster token list", "")]),
        Command(
            "token revoke", summary: "make a token void", arguments: [Argument("ID", help: "from `muster token list`")],
            examples: [.init("muster token revoke 082048c099ff", "who joined with it stays")]),
        Command(
            "leader transfer", summary: "hand leadership of a group to another node",
            options: [
                Option("space", .text("NAME"), help: "of a space's group instead of the root"),
                Option("to", .text("NODE"), help: "the node that is to lead"),
            ],
            examples: [
                .init("muster leader transfer --to n2", "of the root group"),
                .init("muster leader transfer --space config", "to whoever is the fittest"),
            ]),
        Command(
            "cert list", summary: "list the authorities and the nodes' certificates",
            examples: [.init("muster cert list", "")]),
        Command(
            "cert rotate", summary: "renew a node's certificate, or take a step of the authority's rotation",
            details: """
                Without --authority, the node that is asked renews its certificate now instead of in time. With it, the cluster's
                authority is replaced in three steps, one for each call: a new one is trusted; it signs, once every node trusts it (one that is
                off is started, or removed); the old one is trusted no more, once it is no node's certificate's any more.
                Between the steps every operator runs `muster cert renew`, and programs get the new ca.pem. With --sealing-key, another
                key takes over the secret fields of VMs: once all root voters hold it, all fields are sealed anew, and the old key goes
                when none needs it, after a minute or more; `muster cert list` shows how far it is. Backups from before need the old key.
                """,
            options: [
                Option("authority", help: "the cluster's authority; repeat until the old one is gone"),
                Option("sealing-key", help: "the key of VMs' secret fields"),
                Option("abandon", help: "give up a new authority that signs nothing yet"),
                Option(
                    "step", .choice(CertificateRotation.Step.allCases.map(\.rawValue)),
                    help: "the step that is meant: a command that is repeated then takes no other"),
            ],
            examples: [
                .init("muster cert rotate --authority", "the next step"),
                .init("muster cert rotate --authority --step trust", "that step, or none"),
                .init("muster cert rotate --sealing-key", "seal all secret fields anew"),
            ]),
        Command(
            "cert renew",
            summary: "renew the operator's certificate in the identity's folder, and learn the authorities",
            examples: [.init("muster cert renew --identity ~/.muster", "good for another year")]),
        Command(
            "cert issue", summary: "make another certificate for an operator, on a root voter's host",
            details: """
                For an operator whose certificate is lost or has ended. It asks no cluster: it reads the authority's key in the node's
                directory and signs a certificate of the operator admin, good for a year. The agent there may run or not.
                """,
            options: [
                Option("to", .text("DIR"), isRequired: true, help: "the folder to make"),
                Option(
                    "node-data", .text("DIR"), variable: "MUSTER_NODE_DATA",
                    help: "the node's directory (default /var/lib/muster)"),
            ],
            examples: [.init("muster cert issue --to ~/.muster", "then: export MUSTER_IDENTITY=~/.muster")]),
        Command(
            "upgrade status", summary: "show which feature levels are open",
            examples: [.init("muster upgrade status", "and which nodes still run an older program")]),
        Command(
            "upgrade finalize", summary: "open the next feature level for good",
            details: """
                Until then every node may go back to the program that it ran before. Refused while a node is there whose program
                does not know the level; `muster upgrade status` names it.
                """),
        Command(
            "recover", summary: "take a group out of a lost quorum by force",
            details: """
                For the day when a majority of a group's voters is gone for good. The node that is asked goes on alone with what
                it has: what only the lost voters held is lost. The group's old members are fenced, and the cluster remembers.
                Recover the root first, then the others, each at the node with its newest log. Programs that watched or cached
                a space or a cell read it again: revisions that were lost are given out again.
                Without --accept-loss it shows what each --address, and each node that these know, holds of the group, and
                changes nothing.
                """,
            arguments: [Argument("GROUP", help: "root, a space's name, or the number that `muster status` shows")],
            options: [
                Option("reason", .text("TEXT"), isRequired: true, help: "for the record"),
                Option("accept-loss", help: "say that acknowledged writes may be lost"),
            ],
            examples: [
                .init(
                    "muster recover root --reason 'rack 7 burnt' --accept-loss --address 10.0.0.2:7470",
                    "with what n2 has")
            ]),
    ]

    private static let settings: [Command] = [
        Command(
            "setting list", summary: "list what is set for the whole cluster",
            examples: [.init("muster setting list", "with what each decides")]),
        Command(
            "setting set", summary: "change a setting of the cluster",
            arguments: [
                Argument("SETTING", help: "its name, from `muster setting list`"),
                Argument("VALUE", help: "a number, or a time such as 90s"),
            ],
            examples: [.init("muster setting set replace-after 2m", "a dead voter's place is taken after two minutes")]),
    ]

    private static let sealing = [
        Option("key-file", .text("FILE"), help: "a key that `muster backup key` made"),
        Option("passphrase-file", .text("FILE"), help: "a passphrase of at least 12 bytes instead of a key"),
    ]

    private static let backups: [Command] = [
        Command(
            "backup key", summary: "make a key that seals backups",
            details: """
                The file is all that opens the backups that are sealed with it: keep a copy where the cluster is not.
                """,
            arguments: [Argument("FILE", help: "the file to make")],
            examples: [.init("muster backup key backup.key", "")]),
        Command(
            "backup save", summary: "save every group to a file",
            details: """
                Every group's state at one index, with checksums, packed and encrypted. What was acknowledged before this began is
                in it. Nodes are asked for the groups that they hold, while the cluster works.
                """,
            arguments: [Argument("FILE", help: "the file to make")],
            options: sealing + [
                // How an agent takes the backups of a schedule.
                Option("as-node", .text("DIR"), isHidden: true, help: "ask as the node with this data directory")
            ],
            examples: [.init("muster backup save monday.backup --key-file backup.key", "")]),
        Command(
            "backup inspect", summary: "check a backup and show what is in it",
            arguments: [Argument("FILE", help: "the backup")], options: sealing,
            examples: [.init("muster backup inspect monday.backup --key-file backup.key", "reads all of it")]),
        Command(
            "backup restore", summary: "begin a new cluster, on this host, with what a backup holds",
            details: """
                The new cluster has an id, an authority and a first operator's certificate of its own, and this host as its only
                node; other hosts join it. Spaces, settings, schedules and API tokens are what was saved, and revisions go on from
                there. The backup is checked to its end before anything is written.
                """,
            arguments: [Argument("FILE", help: "the backup")],
            options: sealing + [
                Option(
                    "sealing-key", .text("FILE"),
                    help: "sealing.key of a node that voted in the root, which opens VMs' secret fields")
            ] + configOptions + [Option("start", help: "run the agent afterwards")],
            examples: [
                .init("muster backup restore monday.backup --key-file backup.key --node-data /var/lib/muster", "")
            ]),
        Command(
            "backup schedule", summary: "list the schedules of backups, or set or remove one",
            details: """
                The node that leads the root group takes them: directory and key file are paths there. A directory that all nodes
                share keeps them together; the oldest beyond --keep are removed where a new one was made.
                """,
            arguments: [Argument("NAME", isOptional: true, help: "the schedule; without it all are listed")],
            options: [
                Option("every", .duration(.seconds(60)...(.seconds(31_536_000))), help: "from one to the next"),
                Option("keep", .integer(1...10_000), help: "how many are kept (default 7)"),
                Option("to", .text("DIR"), help: "where they go"),
                Option("key-file", .text("FILE"), help: "the key that seals them"),
                Option("remove", help: "remove the schedule; its backups stay"),
            ],
            examples: [
                .init(
                    "muster backup schedule nightly --every 1d --to /backups --key-file /etc/muster-backup.key", "")
            ]),
    ]

    private static let spaces: [Command] = [
        Command(
            "space create", summary: "make a key space", arguments: [Argument("SPACE", help: "its name")],
            options: [
                Option(
                    "replicas", .choice(["1", "3", "5"]), help: "how many nodes vote in it (default 3, as nodes allow)")
            ], examples: [.init("muster space create config", "")]),
        Command("space list", summary: "list the key spaces", examples: [.init("muster space list", "")]),
        Command(
            "space move", summary: "move a space to other nodes", arguments: [Argument("SPACE", help: "its name")],
            options: [
                Option(
                    "to", .text("NODE"), isRepeated: true, isRequired: true,
                    help: "a node that is to hold it, or several with commas")
            ], examples: [.init("muster space move config --to n2,n3,n4", "while it works")]),
        Command(
            "space delete", summary: "delete a space with its keys", arguments: [Argument("SPACE", help: "its name")],
            options: [Option("force", help: "even if its replicas don't answer")],
            examples: [.init("muster space delete config", "")]),
    ]

    private static let keys: [Command] = [
        Command(
            "kv put", summary: "write a key",
            arguments: [
                Argument("SPACE", help: "its space"), Argument("KEY", help: "the key"),
                Argument("VALUE", isOptional: true, help: "the value; standard input if left out"),
            ],
            options: [
                Option(
                    "revision", .text("REV"),
                    help: "only if the key's last change is this one; 0: only if it is not there"),
                Option("if-value", .text("VALUE"), help: "only if the key holds this value"),
                Option(
                    "fence", .text("NAME:TOKEN"), help: "only while this lock of the space is held under this token"),
            ],
            examples: [
                .init("muster kv put config greeting hello", ""),
                .init("muster kv put config leader n1 --revision 0", "only one of many takes it"),
            ]),
        Command(
            "kv get", summary: "print a key's value",
            details: """
                The value alone, byte for byte. With -o json or yaml also its last change, for --revision, and its version; the
                value is base64 then.
                """,
            arguments: [Argument("SPACE", help: "its space"), Argument("KEY", help: "the key")],
            options: [
                Option(
                    "stale", .duration(.milliseconds(1)...(.seconds(3_600))),
                    help: "a value that was current this long ago is good enough")
            ],
            examples: [
                .init("muster kv get config greeting", ""),
                .init("muster kv get config greeting --stale 2s", "without asking the leader, when this node may know"),
            ]),
        Command(
            "kv delete", summary: "delete a key",
            arguments: [Argument("SPACE", help: "its space"), Argument("KEY", help: "the key")],
            options: [
                Option("revision", .text("REV"), help: "only if the key's last change is this one"),
                Option("if-value", .text("VALUE"), help: "only if the key holds this value"),
                Option(
                    "fence", .text("NAME:TOKEN"), help: "only while this lock of the space is held under this token"),
            ],
            examples: [.init("muster kv delete config leader --if-value n1", "gives back what is still one's own")]),
        Command(
            "kv list", summary: "list keys",
            arguments: [
                Argument("SPACE", help: "the space"),
                Argument("PREFIX", isOptional: true, help: "what the keys begin with"),
            ],
            options: [
                Option("limit", .integer(1...1_000_000_000), help: "at most so many (default: all)"),
                Option("after", .text("KEY"), help: "those behind this key, to go on where a limit ended a list"),
                Option(
                    "stale", .duration(.milliseconds(1)...(.seconds(3_600))),
                    help: "keys as they were this long ago are good enough"),
            ],
            examples: [
                .init("muster kv list config services/", ""),
                .init("muster kv list config services/ --limit 100 --after services/web", "the next hundred"),
                .init("muster kv list config --stale 2s", "without asking the leader, when this node may know"),
            ]),
        Command(
            "kv watch", summary: "print changes as they happen",
            arguments: [
                Argument("SPACE", help: "the space"),
                Argument("PREFIX", isOptional: true, help: "what the keys begin with"),
            ],
            options: [Option("from", .text("REV"), help: "after this revision, without a gap; 0: from the beginning")],
            examples: [.init("muster kv watch config --from 812.255", "goes on after what was seen before")]),
    ]

    private static let lockArguments = [
        Argument("SPACE", help: "the space that keeps it"), Argument("LOCK", help: "its name"),
    ]
    private static let lease = Option(
        "lease", .duration(.seconds(1)...(.seconds(3_600))),
        help: "without a renewal for so long the lock becomes free (default 15s)")
    private static let patience = Option(
        "wait", .duration(.zero...(.seconds(86_400))),
        help: "how long to try while another holds it (default: not at all)")

    private static let locks: [Command] = [
        Command(
            "lock take", summary: "take a lock, or renew it",
            details: """
                Prints the token, which is higher than that of every holder before. The same owner takes it again to renew it, and
                keeps the token. Do under the lock only what the token goes along with (kv put --fence, or a system that refuses
                tokens below the highest it has seen): a holder that was stopped for longer than its lease does not know it.
                """,
            arguments: lockArguments,
            options: [
                Option("owner", .text("NAME"), isRequired: true, help: "who takes it: a name that nobody else uses"),
                lease,
                patience,
            ],
            examples: [.init("muster lock take config nightly --owner $(hostname)-$$ --lease 1m", "")]),
        Command(
            "lock run", summary: "run a command while holding a lock",
            details: """
                Takes the lock, renews it while the command runs, and gives it back. The command finds MUSTER_LOCK_TOKEN and
                MUSTER_LOCK_FENCE (for kv put --fence) in its environment. If the lock is lost, the command gets SIGTERM, and SIGKILL
                after 5 s. Ends with the command's own code.
                """,
            arguments: lockArguments + [Argument("COMMAND", isRepeated: true, help: "after --, with its arguments")],
            options: [lease, patience],
            examples: [
                .init("muster lock run config nightly --wait 10m -- ./backup.sh", "on one of many hosts at a time")
            ]),
        Command(
            "lock release", summary: "give a lock back", arguments: lockArguments,
            options: [
                Option("owner", .text("NAME"), isRequired: true, help: "who took it"),
                Option("if-token", .integer(1...Int.max), help: "only the holding under this token"),
            ],
            examples: [.init("muster lock release config nightly --owner host1-4711", "")]),
        Command(
            "lock show", summary: "say who holds a lock", arguments: lockArguments,
            examples: [.init("muster lock show config nightly", "")]),
        Command(
            "lock list", summary: "list locks that are held", arguments: [Argument("SPACE", help: "the space")],
            options: [Option("prefix", .text("TEXT"), help: "only those whose names begin with this")],
            examples: [.init("muster lock list config", "")]),
    ]

    /// They read their options themselves; here they are for the help.
    private static let tools: [Command] = [
        Command(
            "simulate", summary: "run whole clusters under faults, each from one seed",
            details: """
                A failing run prints its seed and the first promise it broke; the same seed and options replay it exactly. Exit
                code 1 means that a promise was broken, or that in a thousand seeds or more a kind of harm never struck.
                """,
            options: [
                Option("seeds", .range(0...Int.max), help: "seeds to run, one after the other (default 1..20)"),
                Option("nodes", .range(1...15), help: "size of the clusters, drawn per seed (default 3..7)"),
                Option("seconds", .integer(1...100_000), help: "simulated seconds of faults per seed (default 60)"),
                Option("minutes", .integer(1...10_000), help: "the same in minutes"),
                Option("jobs", .integer(1...256), help: "seeds at once (default: the number of cores)"),
                Option("cpu-seconds", .integer(1...10_000_000), help: "stop after so much CPU time"),
                Option("trace", .text("FILE"), help: "write one line per event; seeds then run one at a time"),
                Option("fleet", help: "hosts with VMs on the nodes, their owners and operators"),
                Option(
                    "mixed", help: "programs of two versions: nodes are upgraded and go back, the feature level opens"),
                Option("mutant", .text("NAME"), help: "switch a built-in bug on, in a build with -DMUTANTS"),
                Option("quiet", help: "no progress bar"),
            ],
            examples: [.init("muster simulate --seeds 1..100 --nodes 3..5", "")]),
        Command(
            "mutants", summary: "list the bugs that a mutant build can switch on",
            arguments: [Argument("list", help: "the word")],
            options: [
                Option("fleet", help: "those of leases, moves and the cell"),
                Option("mixed", help: "those of programs of two versions"),
            ]),
        Command(
            "bench", summary: "measure parts of the program, or a running cluster",
            details: """
                core, history and simulate need nothing, and take --quick. placement, replay and rebalance explain themselves
                with --help. admin has clients, each with one request in flight, ask a running cluster; etcd asks an etcd 3 in the same way, by
                gRPC. fleet create has clients create VMs, one by one or with --batch, with streams that see them come with --watch;
                fleet list reads all VMs page by page. chaos asks while somebody torments the cluster (Tools/chaos), and judges what its clients saw.
                """,
            arguments: [
                Argument(
                    "NAME", help: "core, history, simulate, placement, replay, rebalance, admin, fleet, chaos or etcd"),
                Argument("WHAT", isOptional: true, help: "of fleet: create or list"),
            ],
            options: [
                Option("quick", help: "small inputs"),
                Option(
                    "space", .text("NAME"),
                    help: "admin, chaos: the space to write to, for admin several with commas (default bench)"),
                Option("clients", .integer(1...10_000), help: "admin, chaos, etcd: connections (default 64)"),
                Option("seconds", .integer(1...86_400), help: "admin, chaos, etcd: how long (default 5)"),
                Option("bytes", .integer(0...(1 << 20)), help: "admin, etcd: bytes of a value (default 128)"),
                Option("batch", .integer(1...10_000), help: "fleet create: VMs in a request (default 1)"),
                Option("count", .integer(1...100_000_000), help: "fleet create: VMs at most"),
                Option("watch", help: "fleet create: with a stream from each node"),
                Option("stopped", help: "fleet create: don't start them"),
                Option("no-wait", help: "fleet create: don't wait until all have a place"),
                Option("limit", .integer(1...1_000), help: "fleet list: VMs on a page (default 1000)"),
                Option("reads", help: "admin, etcd: linearizable reads instead of writes"),
                Option("roam", help: "admin: who loses its connection goes on at the next address"),
                Option("keys", .integer(1...10_000), help: "chaos: how many keys (default 12)"),
                Option("settle", .integer(1...600), help: "chaos: seconds for the last reads (default 60)"),
            ],
            examples: [
                .init(
                    "muster bench admin --identity DIR --address 10.0.0.1:7470,10.0.0.2:7470 --space bench --clients 64",
                    "addresses in digits, separated by commas")
            ]),
    ]
}
