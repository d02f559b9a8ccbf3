internal import ClusterBase
package import CommandSyntax

/// The commands about hosts, VMs and what belongs to them.
package enum FleetTable {
    package static let commands: [Command] =
        (vms + hosts + groups + plans + events).map(ofCell) + cells + regions + images + remains + tenants + quotas
        + shell

    private static let cell = Option(
        "cell", .text("CELL"), help: "in this cell (default: where what is named is; lists: in all)")

    /// The same command, for one cell where there are several.
    private static func ofCell(_ command: Command) -> Command {
        var command = command
        // Where it is about another cell than the one that has what is named, it says so itself.
        if command.options.contains(where: { $0.name == "cell" }) { return command }
        command.options.append(cell)
        return command
    }

    private static let vm = Argument("VM", help: "its name or number")
    private static let vmList = Argument("VM", isRepeated: true, help: "names or numbers")
    private static let host = Argument("HOST", help: "its name or number")
    private static let tenant = Option(
        "tenant", .text("TENANT"), variable: "MUSTER_TENANT", help: "whose VMs (default: default)")
    private static let wait = [
        Option("wait", help: "until it is done"),
        Option(
            "wait-timeout", .duration(.seconds(1)...(.seconds(86_400))), help: "give up waiting after this (default 5m)"
        ),
    ]
    private static let wayBack = Option(
        "return", .choice(["none", "lazy", "all"]),
        help: "what becomes of what a drain moved off it, when it is in service; see `muster help host resume`")
    private static let dryRun = Option("dry-run", help: "show what would happen, and change nothing")
    private static let together = Option(
        "all-or-nothing", help: "create none if one can't be, and place none before all fit; at most 1,024")
    private static let plan = Option(
        "plan", .text("DIGEST"), help: "of the plan that --dry-run showed: refused where it is another one by now")
    private static let ifGeneration = Option(
        "if-generation", .integer(1...Int.max), help: "only if this is still its generation")
    /// Of what has labels.
    static let selector = Option(
        "selector", .text("LABELS"), letter: "l", isRepeated: true,
        help: "with these labels, such as app=web,env!=dev, 'env in (a,b)', gpu or '!gpu'")
    package static let listing = [
        Option("filter", .text("EXPRESSION"), letter: "f", help: "such as 'phase=running and host=h1'"),
        Option("sort", .text("FIELD"), help: "by this field; -FIELD for falling order"),
        Option("columns", .text("NAMES"), help: "these columns, separated by commas; label.KEY is one label"),
        Option("limit", .integer(1...10_000_000), help: "at most so many"),
        Option("watch", letter: "w", help: "go on, and show what changes"),
    ]

    /// The same of what has other fields.
    private static func of(_ example: String) -> [Option] {
        [Option("filter", .text("EXPRESSION"), letter: "f", help: "such as \(example)")] + listing.dropFirst()
    }

    /// Everything that a VM's specification can say.
    package static let spec = [
        Option("cpu", .text("CORES"), help: "such as 2, 0.5 or 1500m"),
        Option("memory", .size(1 << 20...(1 << 50)), letter: "m", help: "such as 4GiB"),
        Option(
            "disk", .text("DISK"), isRepeated: true,
            help: "name=root,size=20GiB,kind=local|ephemeral|shared:DOMAIN,image=NAME,keep; or a size alone"),
        Option(
            "tpm", .text("KIND"),
            help: "a TPM 2.0, which keeps what it remembers local, ephemeral or in shared:DOMAIN; none: without one"),
        Option("network", .text("NETWORK"), isRepeated: true, help: "a network that its host must have"),
        Option("bandwidth", .integer(0...1_000_000), help: "in Mbit/s"),
        Option("group", .text("GROUP"), isRepeated: true, help: "a placement group that it belongs to"),
        Option("zone", .text("ZONE"), isRepeated: true, help: "a zone that it may be in (default all)"),
        Option("require", .text("KEY=VALUE"), isRepeated: true, help: "a label that its host must have; !KEY for none"),
        Option("prefer", .text("KEY=VALUE"), isRepeated: true, help: "a label that its host should have"),
        Option(
            "tolerate", .text("KEY"), isRepeated: true, help: "a taint that does not keep it away; KEY=VALUE for one"),
        Option(
            "device", .text("DEVICE"), isRepeated: true, help: "kind[*count][:thousandths], such as gpu*2 or gpu:500"),
        Option(
            "numa", .choice(["none", "fewest", "1", "2", "4", "8"]), help: "over how many NUMA nodes (default none)"),
        Option("priority", .integer(-1_000_000...1_000_000), help: "higher goes first, and may push lower out"),
        Option(
            "policy", .choice(["pack", "balance", "spread", "none"]), help: "instead of the cell's; none: the cell's"),
        Option(
            "restart", .choice(["always", "on-failure", "never"]), help: "after it ended by itself (default always)"),
        Option(
            "isolation", .choice(["stop", "keep"]),
            help: "when its host is cut off: stop and start elsewhere, or run on (default stop)"),
        Option(
            "region-loss", .choice(["home-only", "may-move", "must-move"]),
            help: "when its region is lost: wait, go to another, or go first (default home-only)"),
        Option(
            "region-return", .choice(["stay", "return"]),
            help: "when its region is back: stay where it went, or return (default stay)"),
        Option("region", .text("REGION"), isRepeated: true, help: "a region that it may go to then (default: any)"),
        Option(
            "near", .text("REGION"), isRepeated: true,
            help: "a region to which its way is to be short (`muster region latency`)"),
        Option(
            "near-within", .duration(.zero...Nanoseconds.seconds(60)),
            help: "the longest round trip to any of these that it may have, such as 20ms; 0s: of any length"),
        Option(
            "cell-choice", .choice(["near", "cheap"]),
            help: "what its cell is chosen by first, of those with room: its way, or its cost (default near)"),
        Option(
            "move-intent", .choice(["gentle", "balanced", "now", "none"]),
            help: "what a live migration may cost (default none: as its cell is set)"),
        Option("label", .text("KEY=VALUE"), letter: "l", isRepeated: true, help: "for filters; KEY- takes one away"),
        Option(
            "annotation", .text("KEY=VALUE"), isRepeated: true,
            help: "for drivers, such as sim.boot-ms=500; KEY- takes one away"),
        Option(
            "secret", .text("KEY=VALUE"), isRepeated: true,
            help: "for drivers, and seen by its host alone: cloud-init.user-data=@FILE"),
    ]

    private static let vms: [Command] = [
        Command(
            "vm create", summary: "create VMs, and place them",
            details: """
                A VM that can't be placed now waits, and is placed by itself when there is room; `muster vm explain` says what
                it waits for. A number in braces in the name makes many at once; with --all-or-nothing all of them are created
                and placed, or none is, and those that wait get their places together.
                """,
            arguments: [Argument("NAME", isOptional: true, isRepeated: true, help: "such as web, or web-{1..20}")],
            options: spec + [
                tenant,
                Option(
                    "file", .text("FILE"),
                    help: "a JSON object as `vm show -o json` prints it, or a list of them; - is standard input"),
                Option("stopped", help: "don't start it"),
                Option(
                    "over-regions", .choice(["soft", "hard"]),
                    help: "several go to cells of different regions; hard: wait where theirs has no room"),
                together, dryRun, plan,
            ] + wait,
            examples: [
                .init("muster vm create web --cpu 2 --memory 4GiB --wait", "one VM, running when the command ends"),
                .init("muster vm create 'db-{1..3}' --cpu 4 --memory 16GiB --group db", "three of a placement group"),
                .init("muster vm create big --cpu 64 --memory 512GiB --dry-run", "where it would go, and why"),
            ]),
        Command(
            "vm list", summary: "list VMs", options: listing + [tenant, selector],
            examples: [
                .init("muster vm list -l 'app=web,env in (prod,test)'", "by labels"),
                .init("muster vm list --filter 'phase=waiting' -o wide", "what waits for room"),
                .init("muster vm list --columns name,host,age --sort=-id", "three columns, the newest first"),
            ]),
        Command("vm show", summary: "show a VM", arguments: [vm], options: [tenant]),
        Command(
            "vm update", summary: "change a VM's specification",
            details: """
                What can't be changed while it runs takes effect at its next start. What is not said stays as it is. Labels,
                annotations and secrets are set one by one: KEY=VALUE sets one and leaves the others, KEY- takes it away. Of what else
                may be repeated (--group, --disk, --network, --zone, --require, --prefer, --tolerate, --device, --region), what is given
                takes the place of all that was there. `none` alone takes all away: --group none, --label none, --numa none; and
                --policy none goes back to the cell's.
                """, arguments: [vm],
            options: spec + [
                tenant, ifGeneration, Option("file", .text("FILE"), help: "the whole specification as JSON"), dryRun,
                plan,
            ],
            examples: [
                .init("muster vm update web --memory 8GiB", ""),
                .init(
                    "muster vm update web --label tier=front --label old- --group none",
                    "one set, one gone, in no group"),
                .init("muster vm update web --cpu 4 --dry-run", "what would change, and whether it needs a restart"),
            ]),
        Command("vm start", summary: "start VMs", arguments: [vmList], options: [tenant, ifGeneration] + wait),
        Command(
            "vm stop", summary: "stop VMs; they keep their place", arguments: [vmList],
            options: [tenant, ifGeneration] + wait),
        Command(
            "vm restart", summary: "stop VMs and start them again", arguments: [vmList],
            options: [tenant, ifGeneration] + wait),
        Command(
            "vm pause", summary: "halt VMs where they are", arguments: [vmList], options: [tenant, ifGeneration] + wait),
        Command(
            "vm resume", summary: "let paused VMs go on", arguments: [vmList], options: [tenant, ifGeneration] + wait),
        Command(
            "vm delete", summary: "stop VMs and delete them", arguments: [vmList],
            options: [tenant, ifGeneration, dryRun, plan] + wait,
            examples: [.init("muster vm delete web --dry-run", "which of its disks would go with it")]),
        Command(
            "vm migrate", summary: "move a VM to another host while it runs, or to another cell",
            details: """
                The intent is what it may cost. gentle: the guest is never slowed down, others keep most of the bandwidth, and where
                that is not enough the move ends with the reason and the guest stays. balanced: a guest that writes more than is
                copied is slowed down after a while. now: at once, and it may stand still for longer. Without it, it is the VM's
                (--move-intent), or else the cell's (moveIntent of `muster cell set`). Moves for a better balance are gentle; those
                of a drain get harder when they fail, and of a region that is evacuated are made now.

                With --dry-run its host measures for a second what the guest writes, and says how the move would go.

                To another cell a VM goes once that has kept room for it: one that runs goes while it runs, and stays with the
                reason where that fails; any other, and with --cold each, stops here and starts there.
                """,
            arguments: [vm],
            options: [
                tenant, Option("cell", .text("CELL"), help: "to this cell, which chooses the host"),
                Option("cold", help: "to another cell: stop it here and start it there"),
                Option("to", .text("HOST"), help: "where to (default: where placement would put it)"),
                Option(
                    "intent", .choice(["gentle", "balanced", "now"]),
                    help: "what it may cost (default: as the VM or its cell is set)"),
                Option("cancel", help: "call off the migration under way"), ifGeneration, dryRun, plan,
            ] + wait,
            examples: [
                .init("muster vm migrate web --dry-run", "where it would go and how, or why it can't"),
                .init("muster vm migrate web --intent gentle --dry-run", "whether it could go unnoticed"),
            ]),
        Command(
            "vm explain", summary: "say why a VM is where it is, or why it waits", arguments: [vm],
            options: [tenant, Option("host", .text("HOST"), isRepeated: true, help: "what speaks against this one")],
            examples: [.init("muster vm explain big --host h3", "why it is not on h3")]),
        Command("vm history", summary: "show what happened to a VM", arguments: [vm], options: [tenant]),
        Command(
            "vm logs", summary: "print what a VM wrote to its serial console",
            details: "Kept by the host that it is on. The simulated driver runs no guests and has none.",
            arguments: [vm],
            options: [tenant, Option("bytes", .integer(1...1_000_000), help: "the last so many (default 65536)")]),
        Command(
            "vm console", summary: "type into a VM's serial console and see what it writes",
            details:
                "Through whatever node is asked, with the right to change the tenant's VMs. Ctrl-] leaves it; without a "
                + "terminal, it ends a second after the guest's last words to what was typed.",
            arguments: [vm],
            options: [tenant, Option("from-start", help: "begin with all that the guest wrote since its host has it")]),
        Command(
            "vm wait", summary: "wait until VMs are in a phase", arguments: [vmList],
            options: [
                tenant,
                Option(
                    "for", .choice(["running", "paused", "stopped", "placed", "gone"]),
                    help: "the phase (default running)"),
                Option(
                    "wait-timeout", .duration(.seconds(1)...(.seconds(86_400))),
                    help: "give up waiting after this (default 5m)"),
            ]),
    ]

    private static let hosts: [Command] = [
        Command("host list", summary: "list hosts", options: listing + [selector]),
        Command("host show", summary: "show a host", arguments: [host]),
        Command("host cordon", summary: "let nothing new come to a host", arguments: [host], options: [ifGeneration]),
        Command(
            "host drain", summary: "move everything off a host",
            details: """
                It goes on in the cluster until the host is empty, and is called off with `muster host resume`. Paused, no more moves
                begin: those under way go on, what is there stays, and nothing comes to the host. A paused drain is kept, whoever leads.

                --return says beforehand what `muster host resume` is to do with what the drain moves away.
                """,
            arguments: [host],
            options: [
                Option("pause", help: "let no more moves begin of the drain under way"),
                Option("resume", help: "let a drain go on that was paused"), wayBack, ifGeneration, dryRun, plan,
            ] + wait,
            examples: [
                .init("muster host drain h2 --dry-run", "what would move where, and what can't"),
                .init("muster host drain h2 --pause", "the rest stays for now"),
            ]),
        Command(
            "host away", summary: "let a host be away for a while, as for a reboot",
            details: """
                What it runs waits for it: when its lease has run out it is away instead of down, its VMs start nowhere else, and the brake
                counts nothing. Nothing new comes. When its agent registers again the absence is over, and VMs start there again as their
                restart policies say. When the time is over before that, they start elsewhere.
                """,
            arguments: [host],
            options: [
                Option(
                    "for", .duration(.seconds(1)...(.seconds(86_400))), isRequired: true,
                    help: "after this its VMs start elsewhere"), ifGeneration,
            ],
            examples: [.init("muster host away h2 --for 10m", "then reboot it")]),
        Command(
            "host back", summary: "say that a host is not to be away any more",
            details: "Only for one that is heard: one that went is back by itself, when its agent registers.",
            arguments: [host], options: [ifGeneration]),
        Command(
            "host declare-dead", summary: "have VMs of a host that is off start elsewhere",
            details: """
                What a host ran starts elsewhere by itself when its lease has run out, but for VMs that keep running when cut off, where
                the brake holds, and while the host is away as planned. Here you say that the machine is off: all of it starts elsewhere
                that can. Without --yes it says what that would rest on and changes nothing. A host that was heard within its lease
                is refused. The host stays in the cell; when its agent is back it is told what it may run, and ends the rest. What has a
                local disk there waits for it.
                """,
            arguments: [host],
            options: [
                Option("yes", help: "the machine is off, or nothing of its VMs runs there, and that stays so"),
                ifGeneration, dryRun, plan,
            ],
            examples: [
                .init("muster host declare-dead h2", "what it would rest on, and what would start where"),
                .init("muster host declare-dead h2 --yes", "you have seen that it is off"),
            ]),
        Command(
            "host maintain", summary: "drain hosts, some at a time, do something with each, and take them back",
            details: """
                Hosts are cordoned, looked at whether all can leave them, drained, and given to the step: a command for the shell of
                this machine, with the host's name as $MUSTER_HOST. When it has ended with 0 and the host is up, the host is taken back
                and the next ones follow. While the step runs the host may be away (`muster host away`), for as long as --back-timeout
                says. With --return all each host gets its VMs back before the next ones follow. It ends with the first host that
                can't be emptied, whose step fails, or that does not come back: that one stays out of service, the rest as they were. Nothing of this is kept in the cluster: it goes as far as
                this command runs.
                """,
            arguments: [Argument("HOST", isOptional: true, isRepeated: true, help: "names, in this order")],
            options: [
                Option("filter", .text("EXPRESSION"), letter: "f", help: "such as 'rack=r1 and vmCount<10'"), selector,
                Option("step", .text("COMMAND"), help: "such as 'ssh $MUSTER_HOST reboot'"),
                Option("at-once", .integer(1...1_000), help: "so many hosts at a time (default 1)"),
                Option("restarts", help: "a host is back only when its agent has begun anew"), wayBack,
                Option(
                    "back-timeout", .duration(.seconds(1)...(.seconds(86_400))),
                    help: "how long a host may take to come back (default 30m)"),
                Option(
                    "wait-timeout", .duration(.seconds(1)...(.seconds(86_400))),
                    help: "how long a host may take to be emptied (default 5m)"),
                dryRun,
            ],
            examples: [
                .init(
                    "muster host maintain --selector rack=r1 --at-once 2 --step 'ssh $MUSTER_HOST reboot' --restarts",
                    "")
            ]),
        Command(
            "host maintenance", summary: "keep an empty host out of use", arguments: [host], options: [ifGeneration]),
        Command(
            "host resume", summary: "take a host back into service, and the VMs that a drain moved off it",
            details: """
                --return says what becomes of VMs that a drain moved away. none: they stay where they are, and nothing of it is
                remembered. lazy: nothing moves for it, but when one of them is placed anew or moved anyway (started, restarted after a
                loss, drained, rebalanced), it takes this host first. all: they are moved back, live and within the cell's budgets, in
                the cluster, whoever leads; what finds no room here is lazy then. Without it, it is what the drain said, else none.

                A VM belongs to the first host that a drain moved it off, which `muster vm show` names as its origin. That is over when
                somebody moves it elsewhere, when it was stopped for 7 days, and when the host leaves the cell. `muster host resume HOST
                --return lazy` calls moves back off that have not begun, and none forgets them.
                """,
            arguments: [host],
            options: [
                wayBack, Option("pause", help: "let no more moves back begin"),
                Option("go-on", help: "let moves back go on that were paused"), ifGeneration, dryRun, plan,
            ] + wait,
            examples: [
                .init("muster host resume h2 --return all --dry-run", "what would come back, and what can't and why"),
                .init("muster host resume h2 --return all --wait", "with progress"),
                .init("muster host resume h2 --pause", "the rest stays away for now"),
            ]),
        Command(
            "host set", summary: "set a host's labels, taints, reservation and overcommit",
            details: """
                What runs there and may not stay then, or has no room any more, runs on; nothing new is let in. --dry-run names it.
                With --enforce it is moved away, the least important and smallest first, until the rest has room: while it runs, within
                the cell's budgets, in the cluster, whoever leads; what is stopped gives up its place. It ends when all that is there
                may stay, or nothing more can be moved; --wait follows it, and names what stays and why. `muster host set HOST --enforce`
                alone does so for a host that its agent registered with less than it had. Another `host set` without it
                calls it off.
                """, arguments: [host],
            options: [
                Option("label", .text("KEY=VALUE"), letter: "l", isRepeated: true, help: "KEY- takes it away"),
                Option(
                    "taint", .text("KEY=VALUE"), isRepeated: true,
                    help: "keeps VMs away that don't tolerate it; KEY=VALUE:avoid for a soft one, KEY- takes it away"),
                Option("reserve-cpu", .text("CORES"), help: "kept for the host itself"),
                Option("reserve-memory", .size(0...(1 << 50)), help: "kept for the host itself"),
                Option("overcommit-cpu", .text("FACTOR"), help: "such as 2 or 1.5"),
                Option("overcommit-memory", .text("FACTOR"), help: "such as 1.2"),
                Option("enforce", help: "move away what may not stay there then"),
                ifGeneration, dryRun, plan,
            ] + wait,
            examples: [
                .init("muster host set n2 --reserve-memory 8GiB --dry-run", "which VMs would not fit any more"),
                .init(
                    "muster host set n2 --overcommit-cpu 1 --enforce --dry-run", "which VMs would move, and where to"),
                .init("muster host set n2 --overcommit-cpu 1 --enforce --wait", ""),
            ]),
        Command(
            "host mark", summary: "say that what a host has in a storage domain's directory is that domain",
            details: """
                A storage domain's directory has a mark, by which hosts tell it from a place where it is not mounted. It is written when
                the first host names a new domain. Say it yourself where the storage is another one than before, was emptied, or
                was not mounted on the first host. Hosts that have something else there offer the domain no more.
                """,
            arguments: [host, Argument("DOMAIN", help: "one of host.storage-domains of that host")],
            options: [Option("force", help: "even while other hosts reach the domain, which are wrong then")],
            examples: [.init("muster host mark n1 fast", "the storage that is mounted on n1 is fast from now on")]),
        Command(
            "host remove", summary: "take a host out of its cell for good",
            details: """
                One that has VMs goes only by force, and only when it is down: its lease has run out, and what may start elsewhere does
                so by itself. What is left are VMs that keep running when cut off, and those with disks of that host. By force they
                start elsewhere, or wait as new ones, and that rests on your word alone: that the machine is off, or its guests are
                gone, and stay so. If one still runs, there are two of it, which write to the same shared disks.
                """,
            arguments: [host],
            options: [
                Option("force", help: "even with VMs on it: you say that none of them runs there any more"),
                ifGeneration, dryRun, plan,
            ]),
    ]

    private static let groups: [Command] = [
        Command(
            "group list", summary: "list placement groups", options: of("'rule=spread and memberCount>0'") + [tenant]),
        Command(
            "group show", summary: "show a placement group", arguments: [Argument("GROUP", help: "its name")],
            options: [tenant]),
        Command(
            "group create", summary: "make a rule about where VMs are relative to each other",
            arguments: [Argument("GROUP", help: "its name")],
            options: [
                tenant,
                Option(
                    "rule", .choice(["spread", "anti-affinity", "affinity", "pack"]), isRequired: true,
                    help: "what its members want of each other"),
                Option("over", .choice(["host", "rack", "zone"]), help: "the domain (default host)"),
                Option("max", .integer(1...100_000), help: "members in a domain, or the skew of a spread (default 1)"),
                Option("soft", help: "a wish instead of a must"),
                Option("weight", .integer(1...100), help: "of a wish (default 50)"),
            ],
            examples: [.init("muster group create db --rule anti-affinity --over zone", "no two of them in one zone")]),
        Command(
            "group delete", summary: "delete a placement group", arguments: [Argument("GROUP", help: "its name")],
            options: [tenant]),
    ]

    private static let images: [Command] = [
        Command("image list", summary: "list images: a tenant's and everybody's", options: [tenant]),
        Command(
            "image show", summary: "show an image", arguments: [Argument("IMAGE", help: "its name")],
            options: [tenant]),
        Command(
            "image add", summary: "give the bytes of a file a name that VMs' disks can begin with",
            details: """
                The bytes go to the node that is asked, which looks at their SHA-256; two more keep a copy, and hosts pull what their
                VMs need. What was sent before a failure need not be sent again.
                """,
            arguments: [
                Argument("IMAGE", help: "its name"), Argument("FILE", help: "raw, or a qcow2 file that stands alone"),
            ],
            options: [tenant, Option("shared", help: "for every tenant")],
            examples: [
                .init("muster image add debian-12 debian-12.qcow2", ""),
                .init(
                    "muster vm create web --cpu 1 --memory 1GiB --disk size=20GiB,kind=ephemeral,image=debian-12", ""),
            ]),
        Command(
            "image remove", summary: "remove an image that no VM's disk names",
            arguments: [Argument("IMAGE", help: "its name")],
            options: [tenant, Option("shared", help: "the one that is everybody's")]),
    ]

    private static let remains: [Command] = [
        Command(
            "remains list", summary: "list shared disks that VMs left",
            details: """
                A shared disk goes with its VM, or when it is taken off it, removed by a host that reaches it, unless it was made with
                `keep`. Listed are those that are kept, and those that no host could remove yet.
                """,
            options: [tenant]),
        Command(
            "remains forget", summary: "take the kept disks that a VM left off the list; their files stay",
            arguments: [Argument("NUMBER", help: "of the VM, as the list has it")], options: [tenant]),
    ]

    private static let tenants: [Command] = [
        Command(
            "tenant list", summary: "list tenants with their quotas and use", options: of("'tier=gold and usedCount>0'")
        ),
        Command("tenant show", summary: "show a tenant", arguments: [Argument("TENANT", help: "its name")]),
        Command(
            "tenant set", summary: "make a tenant, or change its quota",
            details:
                "What is not said stays as it is; a new tenant has no bounds. `none` takes a bound away. It is in force when the command "
                + "ends. Nothing is made for a tenant that was never set, except for `default`.",
            arguments: [Argument("TENANT", help: "its name")],
            options: bounds + [enforce, Option("tier", .text("WORD"), help: "its class of service"), dryRun, plan],
            examples: [.init("muster tenant set shop --vms 100 --memory 512GiB", "")]),
        Command(
            "tenant delete", summary: "delete a tenant that has no VMs",
            arguments: [Argument("TENANT", help: "its name")]),
    ]

    private static let enforce = Option(
        "enforce", help: "stop what runs beyond the quota, the lowest priority and newest first")

    private static let bounds = [
        Option("vms", .text("N|none"), help: "VMs at most"),
        Option("cpu", .text("CORES|none"), help: "cores at most"),
        Option("memory", .text("SIZE|none"), help: "memory at most"),
        Option("disk", .text("SIZE|none"), help: "disk at most, on hosts and shared"),
        Option(
            "priority-max", .integer(-1_000_000...1_000_000),
            help: "the highest priority that who reaches this tenant alone gives its VMs (default: 0)"),
        Option(
            "rto", .text("TIME|none|auto"),
            help:
                "how long its VMs may be down whose hosts were lost, such as 90s (default: auto, as `muster cell set rto` has it)"
        ),
    ]

    private static let quotas: [Command] = [
        Command(
            "quota list", summary: "list what tenants may have and what they use", options: of("'memoryMiB>65536'")),
        Command("quota show", summary: "show a tenant's quota", arguments: [Argument("TENANT", help: "its name")]),
        Command(
            "quota set", summary: "change a tenant's quota",
            details:
                """
                What is not said stays as it is; `none` takes a bound away. What runs beyond a new bound runs on, and --dry-run names it.
                With --enforce VMs are stopped until the rest runs within the bounds of VMs, cores and memory. What is stopped stays with
                its disks, counts in the quota as before, and may be started again.
                """,
            arguments: [Argument("TENANT", help: "its name")], options: bounds + [enforce, dryRun, plan],
            examples: [
                .init("muster quota set shop --vms 100 --cpu none", ""),
                .init("muster quota set shop --cpu 16 --enforce --dry-run", "which VMs would be stopped"),
            ]),
    ]

    private static let plans: [Command] = [
        Command(
            "plan create", summary: "say where VMs would go, and change nothing",
            arguments: [Argument("NAME", isOptional: true, isRepeated: true, help: "such as web, or web-{1..20}")],
            options: spec + [tenant, Option("file", .text("FILE"), help: "as for `vm create`"), together],
            examples: [.init("muster plan create 'web-{1..20}' --cpu 2 --memory 4GiB", "how many of them have room")]),
        Command(
            "plan drain", summary: "say what would leave a host, where to, and what can't", arguments: [host]),
        Command(
            "plan return", summary: "say what would come back to a host that was drained, and what can't",
            arguments: [host]),
        Command(
            "plan loss", summary: "say what would become of VMs if hosts were lost at once",
            arguments: [Argument("HOST", isRepeated: true, help: "names or numbers")],
            examples: [.init("muster plan loss h1 h2", "what would run elsewhere, and what would not")]),
        Command(
            "plan losses", summary: "say of each host, rack or zone what its loss would leave down",
            details: """
                VMs that find no room have others of a lower priority stopped, as they will. STOPPED counts those; each starts elsewhere in
                its turn, or is down.
                """,
            options: [Option("over", .choice(["host", "rack", "zone"]), help: "what is lost (default host)")],
            examples: [.init("muster plan losses --over zone", "which VMs would wait if a zone were lost")]),
        Command("plan rebalance", summary: "say what moves would make the cell better"),
        Command("rebalance show", summary: "say what moves would make the cell better"),
        Command(
            "rebalance run", summary: "carry out one round of those moves",
            details: "The plan is made, shown, and carried out if it still is the plan; else it is made again.",
            options: [dryRun]),
        Command("migration list", summary: "list migrations under way", options: listing),
    ]

    private static let named = Argument("CELL", help: "its name")

    private static let hostsPlanSteps = [
        Option("pause", help: "let no other host begin"), Option("resume", help: "go on after a pause"),
        Option("cancel", help: "call the plan off; what has gone stays in the other cell"),
    ]

    private static let cells: [Command] = [
        Command(
            "cell list", summary: "list the cells", details: "A cell is a group of hosts with their VMs.",
            examples: [.init("muster cell list -o wide", "and which nodes hold their groups")]),
        Command(
            "cell create", summary: "make a cell",
            details: """
                New nodes of its region come to it by themselves, each to the one with the fewest hosts; others go with `muster
                cell assign`. What it survives says where the voters of its group are.
                """,
            arguments: [named],
            options: [
                Option("region", .text("REGION"), help: "where its hosts are"),
                Option(
                    "survives", .choice(["zone", "region"]),
                    help: "voters over its region's zones, or over regions (default: wherever they are spread best)"),
                Option("replicas", .integer(1...5), help: "how many nodes vote in its group: 1, 3 or 5 (default 3)"),
            ],
            examples: [.init("muster cell create north --region north --survives zone", "")]),
        Command(
            "cell show", summary: "show a cell and its settings, and what the loss of a zone or a region would cost it",
            details: """
                For each zone and region with replicas of the cell's group: ENTRIES that were acknowledged and that no replica
                elsewhere holds, how old the oldest of them is (LAG-MS), and whether it GOES ON by the replicas elsewhere that
                answer. Of VMs' disks nothing is said. `muster cell list` and `muster status` name promises that are not kept (AT
                RISK): rpoZone, rpoRegion, rto and failoverReserve of `muster cell set`, and that it goes on without what it survives.

                With a failoverReserve: what is LEFT of each kind of amount beyond what is kept free, which is what the WORST LOSS
                takes, room for the LARGEST VM that would start elsewhere, and what was lost and has no place yet (OWED).

                By tier of their tenants it says how long VMs were DOWN that run again after the last loss of hosts, from when a host
                was heard last until the last of them ran; and the longest of any loss. VMs that leave an evacuated region count too,
                in the cell where they run, from when they were told to stop.
                """,
            arguments: [Argument("CELL", isOptional: true, help: "its name; may be left out where there is one")]),
        Command(
            "cell set", summary: "change a setting of a cell",
            details: """
                A lease (leaseMillis) that another leader's election would outlast is refused: it lasts at least 5 times as long as a
                silence after which the cell's nodes are held for dead, and 2 beats, by the links as its leader measures them. A cell
                over regions has a longer one, and waits so long before a lost host's VMs start elsewhere.

                rpoZone and rpoRegion are how old what was acknowledged may be that is lost with any one zone or region. They are 0s
                for what the cell survives, and none for what it does not, unless you set them. An event, an alarm of `muster
                status` and a metric say so when a replica that lags, or is not there, means that it would be more.

                rto is how long VMs may be down whose hosts were lost; `muster tenant set --rto` declares another for a tenant. It is told while one that has somewhere to run does not, and
                an event (tenant.rto-missed) names the first of a tenant that was down for longer.

                failoverReserve keeps room free for VMs to start elsewhere after a loss: hosts:1, racks:2, zones:1, up to 8, or off.
                A VM that would use it waits and says so (`muster vm explain`); a start, a resize or a drain that would use it
                waits or is refused. What was lost may use it. VMs with local disks, with restart never and with isolation keep
                start nowhere else, and nothing is kept for them. While it is not there an alarm, an event and a metric say so.

                splitAbove has a cell split by itself beyond so many hosts or VMs: hosts:500, vms:100000, or off. Half of its hosts go to
                a new cell as by `muster cell split`, whole racks where hosts name theirs, of each zone by itself; it is called like
                this one with the next number, such as north-2, and has the settings of this one. Hosts with VMs of one hard placement group go or stay together, where that
                is possible. A cell that is to survive something keeps as
                many hosts as it has voters, over two zones, and so does the new one; else nothing begins. After a plan was
                called off none begins by itself for an hour.

                mergeBelow has a cell with fewer hosts or VMs, such as hosts:4 or vms:1000, go into another one of its region by itself, as by
                `muster cell merge --retire`: into one that survives the same, takes part in no plan and is at most half full by its
                splitAbove then. It counts what splitAbove counts, and is at most a quarter of it. The first cell, the one that keeps
                its region's names and an empty one stay, and so does one that a plan made or changed within the last hour.

                cost is what a VM costs here beside other cells, in whatever unit; 0: nobody said. VMs with --cell-choice cheap go
                to the cheapest cell with room, others to the cheaper of two that are as near; a cell of which nobody said
                comes last.
                """,
            arguments: [Argument("SETTING", help: "from `muster cell show`"), Argument("VALUE", help: "its value")],
            options: [cell, dryRun, plan],
            examples: [
                .init("muster cell set policy spread", "VMs go where the fewest are"),
                .init("muster cell set rpoRegion 5s", "an alarm says when more would be lost with a region"),
                .init("muster cell set splitAbove vms:100000", "a larger cell gives half of its hosts to a new one"),
                .init("muster cell set mergeBelow vms:1000", "a smaller cell goes into another one of its region"),
                .init("muster cell set failoverReserve hosts:1", "what ran on any one host has room on the others"),
            ]),
        Command(
            "cell assign", summary: "have a node's host go to another cell",
            details: """
                It goes with its VMs, which run on, to a cell of its region, and without VMs to any cell; it belongs to one cell at any
                time. What is under way on it comes first: a VM that is being moved or deleted, or a drain, keeps it. Placement groups
                of its VMs go along. A hard one with members that stay keeps it where the two cells could break its rule together: if
                the group keeps VMs together, or keeps them apart in racks or zones of which both cells would have hosts. A group
                of the other cell with the same name and another rule keeps it, too, and so does one whose rule would not hold
                there. While it goes, for a moment, nobody changes its VMs. To its own cell:
                what is under way is called off, if it is not too late.
                """,
            arguments: [Argument("NODE", help: "its name or number"), named], options: [dryRun],
            examples: [
                .init("muster cell assign n4 north --dry-run", "which VMs would go along, or what prevents it"),
                .init("muster cell assign n4 north", "with its VMs, which run on"),
            ]),
        Command(
            "cell split", summary: "have hosts of a cell go to another one with their VMs, one after the other",
            details: """
                The other cell is made like this one if it is not there. Which hosts go is fixed when it begins. Each goes as with
                `muster cell assign`: its VMs run on, and what keeps one is told and tried again, and keeps no other. For placement
                groups the hosts that go count as one: who is to be together goes together. A cell that is made gets the settings
                of this one before the first host comes.

                With --hosts they are chosen: each zone gives its share, or whole zones go; racks stay whole and hosts with VMs of one hard
                placement group together, where that has more of them go; hosts that are down or drained are passed over. The
                answer, and that of --dry-run, says which ones, and why others are left out.

                The plan is the cluster's: it goes on whoever leads, and without the command that began it. `muster cell show` says
                how far it is, and --wait follows it. --pause has a host that is on its way arrive and no other begin; --cancel ends
                it: what has gone stays in the other cell.
                """,
            arguments: [named],
            options: [
                Option("into", .text("CELL"), help: "the cell that they go to"),
                Option("hosts", .integer(1...2_048), help: "so many of them at most, which are chosen"),
                Option("rack", .text("RACK"), help: "those of this rack"),
                Option("zone", .text("ZONE"), help: "those of this zone"), dryRun,
            ] + hostsPlanSteps + wait,
            examples: [
                .init(
                    "muster cell split north --into north-2 --rack r7 --dry-run",
                    "which hosts would go, and what keeps the others"),
                .init("muster cell split north --into north-2 --hosts 100 --wait", "half of a cell of 200 hosts"),
                .init("muster cell split north --pause", "`muster cell show north` says how far it is"),
            ]),
        Command(
            "cell merge", summary: "have all of a cell go to another one of its region",
            details: """
                Hosts go one after the other with their VMs, which run on, also those that join meanwhile; then the VMs that wait or
                are stopped without a host; then, with --retire, the cell ends. The first cell stays. It is a plan like a split, to be
                shown, paused, resumed and cancelled as that is.
                """,
            arguments: [named],
            options: [
                Option("into", .text("CELL"), help: "the cell that takes them"),
                Option("retire", help: "end the cell when nothing is left in it"), dryRun,
            ] + hostsPlanSteps + wait,
            examples: [.init("muster cell merge north-2 --into north --retire --wait", "")]),
        Command(
            "cell retire", summary: "end an empty cell", details: "The cluster's first cell stays.",
            arguments: [named]),
    ]

    private static let region = Argument("REGION", help: "its name")
    private static let returns = Option(
        "return", .choice(["none", "policy", "all"]), help: "who goes home when the region takes VMs again")
    private static let planSteps = [
        Option("pause", help: "let nothing more begin"), Option("resume", help: "go on after a pause"),
        Option("cancel", help: "call the plan off; what has moved stays where it is"),
    ]

    private static let regions: [Command] = [
        Command(
            "region list", summary: "list the regions, and whether they are lost",
            details: "GO ON are cells whose group has a majority without the region, WAIT those whose has none."),
        Command(
            "region show", summary: "show a region, and how far a plan for it is",
            details: """
                Of a plan: VMS and WITHOUT PLACE are still there, MOVED came from there and are in that cell now, MOVING are on their
                way (and counted in AWAY), AWAY and WITHIN go to other cells and to other hosts of their cell, in WAVES; WAIT stay,
                and it is said why. It is worked out from what is there when you ask. EXPECTED-MS is how long the rest takes, wave after
                wave, if moves take as long as they did lately; there is none until one has ended under the cell's leader. BEYOND (-o
                wide) are VMs counted in WAIT whose waves were too many to play through.
                """,
            arguments: [region]),
        Command(
            "region evacuate", summary: "have a region's VMs leave it while it is there",
            details: """
                Nothing new goes to the region, and VMs that may move (`muster vm create --region-loss may-move` or must-move) leave
                it while they run: those of a cell with hosts in other regions to these, those of a cell with all hosts in it to
                cells of other regions, which keep a place first. One that can't be sent so is asked to end, and starts there.
                Home-only VMs of such a cell, and those with local disks, stay. A cell has as many on their way as may
                migrate in it (migrationsMax of `muster cell set`), those that must move first, then by priority.

                The plan is the cluster's: it goes on whoever leads, and new VMs leave too. --pause has what is on its way go on and
                nothing else begin; --cancel has all that have not left yet stay. `muster region return` is the way back; --return
                says here who is to go it: none, those with `--region-return return` (policy, the default), or all that left.
                """,
            arguments: [region],
            options: [dryRun, returns] + planSteps,
            examples: [
                .init("muster region evacuate north --dry-run", "what would move where, and what would stay"),
                .init("muster region evacuate north --return all", "begins"),
                .init("muster region evacuate north --pause", "`muster region show north` says how far it is"),
            ]),
        Command(
            "region return", summary: "have a region take VMs again, and those that left it go back",
            details: """
                Ends an evacuation, and is the way back from it and from a loss: VMs go home as there is room, each stopped for the
                way. It is a plan like the evacuation, to be shown, paused, resumed and cancelled as that is.
                """,
            arguments: [region],
            options: [dryRun, returns] + planSteps,
            examples: [.init("muster region return north --return none", "it takes VMs again, and nobody goes back")]),
        Command(
            "region declare-lost", summary: "have VMs of a lost region start elsewhere",
            details: """
                Cells give up all its hosts that are silent, each when its lease has ended, whatever the brake says; a host that is
                heard keeps its VMs. What finds no place in its cell and may move (`muster vm create --region-loss`) goes to cells
                in other regions, the most urgent first. The cluster does this by itself after `region-lost-after` (`muster
                setting list`) when it hears none of the region's nodes, and most of the others.

                With --dry-run nothing is declared: each cell's leader plays through what it would do if all hosts of the region
                fell silent at once. The answer says per cell and VM what would start where, in which waves, and what would wait
                and why; of cells in other regions it knows what they said of their room, and how long ago.
                """,
            arguments: [region], options: [dryRun],
            examples: [
                .init("muster region declare-lost north", "says what goes on and what waits"),
                .init("muster region declare-lost north --dry-run", "what would move where, and what would not"),
            ]),
        Command(
            "region back", summary: "say that a lost region is there again",
            details: """
                The brake holds for its hosts again, and VMs that went elsewhere and are to return (`--region-return return`) go
                home, a few at a time, while they run where that works. A region that the cluster found lost by itself is back by
                itself, unless somebody has declared it lost since.
                """,
            arguments: [region]),
        Command(
            "region latency", summary: "list the round trips between regions",
            details: """
                VMs that are to be near a region (`muster vm create --near`) go first to cells of regions with a short way to it. Two nodes
                of each region measure the ways to all others, by the beats of their groups or by a few sent for that, and tell the
                cluster what is new. A way that nobody knows ranks last, and is too long for a VM with --near-within.
                """,
            arguments: [Argument("REGION", isOptional: true, help: "from this region alone")],
            examples: [.init("muster region latency north", "how far it is from there to the others")]),
        Command(
            "region set-latency", summary: "set the round trip between two regions",
            details: "It counts whatever is measured, until you say measured.",
            arguments: [
                region, Argument("OTHER", help: "another one"),
                Argument("TIME", help: "their round trip, such as 20ms; or measured"),
            ],
            examples: [.init("muster region set-latency north south 20ms", "from now on that is their round trip")]),
    ]

    private static let happened = [
        Option("follow", letter: "F", help: "go on as things happen"),
        Option("after", .text("REV"), help: "only what came after this revision, the oldest first"),
        Option("limit", .integer(1...100_000), help: "at most so many, the newest (default 100; 10 with --follow)"),
        Option(
            "filter", .text("EXPRESSION"), letter: "f", help: "such as 'kind~vm.'; fields kind, tenant, vm, host, by"),
        Option("vm", .text("VM"), help: "only about this VM"),
        Option("host", .text("HOST"), help: "only about this host"), tenant,
    ]

    private static let events: [Command] = [
        Command(
            "events", summary: "show what happened, the newest last",
            options: happened,
            examples: [
                .init("muster events --limit 20 --vm web", "the last twenty about one VM"),
                .init("muster events --follow --filter 'kind~host'", "what happens to hosts from now on"),
            ]),
        Command(
            "audit", summary: "show who changed what, the newest last",
            details:
                "What was asked of the cell and of the root, by time. With --root, --after, --follow, --cell, --vm or --host it is "
                + "one of them: the root for --root, which has tenants, tokens, nodes, settings, spaces, cells and images, else the cell.",
            options: happened + [Option("root", help: "only what was asked of the root")],
            examples: [
                .init("muster audit --limit 20", "who, what, from where, and when"),
                .init("muster audit --root", "changes of tenants, tokens, nodes and settings"),
            ]),
        Command(
            "top", summary: "show how full the hosts are, and what VMs use",
            options: [
                Option("vms", help: "what each VM uses of the memory and the processors that it was given"),
                Option("watch", letter: "w", help: "again and again, every two seconds"),
            ]),
    ]

    private static let shell: [Command] = [
        Command(
            "completion", summary: "print the script that completes command lines",
            arguments: [Argument("SHELL", help: "bash, zsh or fish")],
            examples: [.init("source <(muster completion bash)", "in ~/.bashrc")]),
        // Hidden, so that `v` goes on to mean `vm`.
        Command("version", summary: "print this program's version", isHidden: true),
        Command("context list", summary: "list the clusters that this user knows"),
        Command(
            "context use", summary: "ask this cluster from now on", arguments: [Argument("NAME", help: "its name")]),
        Command(
            "context set", summary: "remember a cluster under a name", arguments: [Argument("NAME", help: "a name")],
            options: [
                Option("folder", .text("DIR"), isRequired: true, help: "its identity, as for --identity"),
                Option("at", .text("HOST:PORT"), isRepeated: true, help: "where it is asked"),
            ]),
        Command("context remove", summary: "forget a cluster", arguments: [Argument("NAME", help: "its name")]),
    ]
}
