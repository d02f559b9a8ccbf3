package import CommandSyntax

/// What `muster help TOPIC` explains. A test runs every example, in order, against a cluster of three: what is written here
/// works.
package enum HelpTopics {
    package static let all = [
        start, placement, filters, output, waiting, maintenance, quotas, cells, watching, scripts,
    ]

    private static let start = Topic(
        "start", summary: "the first VM",
        text: """
            Hosts that have joined a cluster are a fleet: a VM that is created is placed on one of them by itself, or waits and
            says why. Names belong to a tenant; without --tenant it is the tenant `default`. Everything that changes something
            returns when the cluster has agreed to it; --wait goes on until it is done.
            """,
        examples: [
            .init("muster host list", "what there is"),
            .init("muster vm create hello --cpu 1 --memory 256MiB --wait", "running when the command ends"),
            .init("muster vm list", ""),
            .init("muster vm show hello", "what is wanted, where it is, what it does"),
            .init("muster vm history hello", "what happened to it"),
            .init("muster vm update hello --memory 128MiB --dry-run", "what would change, and nothing does"),
            .init("muster vm delete hello --dry-run", "what would go with it"),
            .init("muster vm delete hello --wait", ""),
        ])

    private static let placement = Topic(
        "placement", summary: "where VMs go, and why",
        text: """
            Hard rules decide which hosts a VM may be on: free room, labels, taints, zones, storage domains, networks, TPM,
            groups. A score picks the best of them: the cell's policy, or the VM's own, is pack, balance or spread. What has no host waits,
            higher priorities first, and is placed as soon as there is room; nobody has to ask again. `vm explain` tells which
            rule kept how many hosts away, and the smallest change that would help. VMs that are created with --all-or-nothing get
            their places together, or wait together: then it tells how many of them would fit, too. A host offers a storage domain
            only where its mark is, which the first host that names the domain writes: an empty directory is one that is not
            mounted. `host show` says what is wrong, `host mark` says that a directory is the domain.
            """,
        examples: [
            .init("muster group create web --rule anti-affinity --over zone", "no two of them in one zone"),
            .init("muster vm create 'web-{1..3}' --cpu 1 --memory 256MiB --group web --wait", ""),
            .init("muster vm create web-4 --cpu 1 --memory 256MiB --group web", "one more than there are zones"),
            .init("muster vm explain web-4", "waits for a fourth zone"),
            .init("muster plan create huge --cpu 4096 --memory 1TiB", "asks, and creates nothing"),
            .init("muster vm delete web-1 web-2 web-3 web-4 --wait", ""),
            .init("muster group delete web", ""),
        ])

    private static let filters = Topic(
        "filters", summary: "which things a list shows",
        text: """
            --filter takes conditions: FIELD = VALUE, != , ~ (begins with), !~ , < <= > >= for numbers, FIELD in (A,B), joined by
            and, or, not and brackets. label.KEY is a label. A value with spaces stands in double quotes. `GET /v1/openapi.json`
            lists every list's fields. Without --sort a list is in the order of creation, and its pages neither miss nor repeat
            anything while others write.
            """,
        examples: [
            .init("muster vm create 'job-{1..3}' --cpu 1 --memory 128MiB --label tier=batch --wait", ""),
            .init("muster vm list --filter 'label.tier=batch and phase in (running,starting)'", ""),
            .init("muster vm list --filter 'name~job and not name=job-1' --sort -name --columns name,host", ""),
            .init("muster host list --filter 'state=ready and freeMemoryMiB>1'", ""),
            .init("muster vm delete job-1 job-2 job-3 --wait", ""),
        ])

    private static let output = Topic(
        "output", summary: "tables, JSON, YAML, names and colours",
        text: """
            -o table shows what most want to see, wide shows all columns, json and yaml show everything, name shows names alone,
            one a line. --columns chooses. Colours say again what a word says; they are left out when the output is no terminal,
            and where NO_COLOR is set. Answers go to standard output; progress and complaints go to standard error.
            """,
        examples: [
            .init("muster host list -o wide", ""),
            .init("muster host list --columns name,state,vms", ""),
            .init("muster host list -o json", ""),
            .init("muster cell show -o yaml", ""),
            .init("NO_COLOR=1 muster host list", ""),
        ])

    private static let waiting = Topic(
        "waiting", summary: "--wait, progress and time limits",
        text: """
            --wait goes on until what was asked for is done: a VM runs, is stopped or gone, a host is empty. It says how far it is,
            with a bar on a terminal and in plain lines elsewhere. --wait-timeout (5m when left out) ends it with exit code 5; what
            was asked for goes on in the cluster; `host drain --wait` does the same, and says what is still on the host. `vm wait` waits for a phase without asking for anything.
            """,
        examples: [
            .init("muster vm create slow --cpu 1 --memory 128MiB --annotation sim.boot-ms=700", ""),
            .init("muster vm wait slow --for running --wait-timeout 30s", ""),
            .init("muster vm stop slow --wait", ""),
            .init("muster vm start slow --wait", ""),
            .init("muster vm delete slow --wait --wait-timeout 30s", ""),
        ])

    private static let maintenance = Topic(
        "maintenance", summary: "emptying a host, and taking it back",
        text: """
            `host cordon` lets nothing new come. `host drain` moves everything elsewhere, running VMs live, within the cell's
            budgets, and ends in maintenance. With --wait it names what can't leave and why, and ends with exit code 1 when nothing
            else can, and with 5 when --wait-timeout is over. `host drain --pause` lets no more moves begin, and --resume lets them go on;
            `host resume` takes the host back, at any time; with `--return all` what the drain moved away is moved back, with
            `--return lazy` it takes the host first when it goes anywhere. `host away` lets a host be away for a while with its VMs, as for a reboot, and
            `host declare-dead` says of one that is off that nothing runs there any more. `host set --enforce` moves away
            what a host has no room for any more, or may not have. `plan drain` and `plan loss` tell beforehand what would happen.
            """,
        examples: [
            .init("muster vm create 'app-{1..3}' --cpu 1 --memory 128MiB --policy spread --wait", ""),
            .init("muster plan drain n2", "what would go where, and what could not"),
            .init("muster vm migrate app-1 --dry-run", "where one of them would go"),
            .init("muster host drain n2 --wait", ""),
            .init("muster host resume n2 --return all --wait", "what was there comes back"),
            .init("muster plan loss n3", "what would become of its VMs"),
            .init("muster vm delete app-1 app-2 app-3 --wait", ""),
        ])

    private static let cells = Topic(
        "cells", summary: "dividing a fleet, and asking over all of it",
        text: """
            A cell is a group of hosts with their VMs, and decides for itself. A cluster begins with one. `cell create` makes another
            for a region; new nodes of that region come to it, and `cell assign` sends a host from one to another with its VMs;
            `cell split` and `cell merge` do so for one host after the other. Lists are
            over all cells and a name finds its VM wherever it is; --cell names one. A new VM goes where there is room.
            """,
        examples: [
            .init("muster cell list", ""),
            .init("muster cell show default", "with its settings"),
            .init("muster cell set policy spread --dry-run", "what it is, and would be"),
            .init("muster host list --cell default", ""),
            .init("muster events --cell default --limit 3", "events are of one cell"),
        ])

    private static let quotas = Topic(
        "quotas", summary: "what a tenant may have",
        text: """
            A tenant's quota bounds VMs, cores, memory and disk, shared or not, and is judged when a VM is created or changed, by the state
            that decides: two that race for the last place can't both have it. A quota that is lowered below what is in use stops
            nothing that runs: --dry-run says what is beyond it, and --enforce stops VMs, the lowest priority and newest first, until
            the rest runs within it. What is stopped counts until it is deleted. It is in force when `tenant set` ends. For a tenant that was never set nothing is made, except for
            `default`. A role of one tenant gives VMs priorities up to --priority-max, 0 unless it is set; operators give any.
            `tenant delete` wants a tenant without VMs.
            """,
        examples: [
            .init("muster tenant set shop --vms 10 --memory 8GiB --tier gold", ""),
            .init("muster quota set shop --cpu 16", "the other bounds stay"),
            .init("muster quota set shop --cpu 1 --enforce --dry-run", "which VMs it would stop"),
            .init("muster tenant set shop --priority-max 10", "for those who reach this tenant alone"),
            .init("muster quota show shop", ""),
            .init("muster quota list", ""),
            .init("muster vm create till --cpu 1 --memory 128MiB --tenant shop --wait", ""),
            .init("muster vm delete till --tenant shop --wait", ""),
            .init("muster tenant delete shop", ""),
        ])

    private static let watching = Topic(
        "watching", summary: "events, the audit, and streams that lose nothing",
        text: """
            `events` shows the newest, the last one at the bottom; --follow goes on. `audit` shows what people and programs changed:
            who, what, from where, for 90 days: `setting set audit-lifetime` for changes of the cluster, eventLifetimeMillis of
            `cell set` for those of a cell, which keeps the last 200,000 events at most. Each has a revision: --after goes on behind it. A
            stream that is too far behind is told so and ends; it never leaves anything out in silence. Programs read the same
            from `GET /v1/events?watch=1`.
            """,
        examples: [
            .init("muster events --limit 5", "the newest five"),
            .init("muster events --filter 'kind~host' --limit 3", ""),
            .init("muster audit --limit 5", ""),
            .init("muster events --after 1 --limit 3 -o wide", "the oldest three behind a revision"),
        ])

    private static let scripts = Topic(
        "scripts", summary: "exit codes, retries and many clusters",
        text: """
            Exit codes: 0 done, 1 failed, 2 the command line makes no sense, to this program or to the cluster, and nothing was done, 3 what
            was named is not there, 4 refused, 5 nobody answered in time, or what --wait waits for did not come in time. A command about
            several things ends with the gravest of their codes: 5, 1, 4, 3, 2. Every change carries a key, so that sending it again after a lost answer does it once. --address may
            be repeated: the next node is asked where one can't be reached. `context` remembers clusters under names. The settings
            MUSTER_IDENTITY, MUSTER_ADDRESS, MUSTER_TOKEN, MUSTER_TENANT and MUSTER_CONTEXT stand for options.
            """,
        examples: [
            .init("muster vm show nobody || test $? = 3", "3: there is none"),
            .init("muster vm create a --cpu lots 2>/dev/null || test $? = 2", "2: nothing was tried"),
            .init("for vm in $(muster vm list --filter phase=waiting -o name); do muster vm explain $vm; done", ""),
            .init("muster version", "this program's; `muster status` has a node's"),
            .init("muster completion bash >/dev/null", "the script for ~/.bashrc"),
        ])
}
