/// What listings show.
package enum FleetColumns {
    package static let vms = [
        Column("NAME", "name"), Column("TENANT", "tenant", isWide: true), Column("PHASE", "phase"),
        Column("HOST", "host"), Column("CPU", "spec.cpuMillis", .cores),
        Column("MEMORY", "spec.memoryMiB", .mebibytes), Column("AGE", "created", .age),
        Column("ID", "id", .integer, isWide: true), Column("POWER", "power", isWide: true),
        Column("EPOCH", "epoch", .integer, isWide: true),
        Column("PRIORITY", "spec.priority", .integer, isWide: true),
        Column("GROUPS", "spec.groups", isWide: true), Column("RESTARTS", "restarts", .integer, isWide: true),
        Column("GENERATION", "generation", .integer, isWide: true), Column("LABELS", "spec.labels", isWide: true),
        Column("MESSAGE", "message", isWide: true),
    ]
    package static let contexts = [
        Column("NAME", "name"), Column("USED", "isUsed"), Column("FOLDER", "folder"), Column("ADDRESSES", "addresses"),
    ]
    package static let images = [
        Column("NAME", "name"), Column("TENANT", "tenant"), Column("BYTES", "bytes", .integer),
        Column("FORMAT", "format", isWide: true), Column("DISK-BYTES", "guestBytes", .integer, isWide: true),
        Column("HOLDERS", "holders"), Column("AGE", "created", .age), Column("SHA256", "sha256", isWide: true),
    ]
    package static let remains = [
        Column("VM", "vm", .integer), Column("NAME", "name"), Column("TENANT", "tenant"),
        Column("CELL", "cell", isWide: true), Column("KEPT", "kept"), Column("LEAVING", "leaving"),
        Column("AGE", "since", .age),
    ]
    package static let hosts = [
        Column("NAME", "name"), Column("STATE", "state"), Column("ZONE", "zone"), Column("RACK", "rack", isWide: true),
        Column("VMS", "vmCount", .integer), Column("CPU", "used.cpuMillis", .cores),
        Column("CPU-MAX", "offered.cpuMillis", .cores), Column("MEMORY", "used.memoryMiB", .mebibytes),
        Column("MEMORY-MAX", "offered.memoryMiB", .mebibytes), Column("NOTE", "note"),
        Column("DRIVER", "driver", isWide: true),
        Column("ID", "id", .integer, isWide: true), Column("REGION", "region", isWide: true),
        Column("LABELS", "labels", isWide: true), Column("TAINTS", "taints", isWide: true),
        Column("GENERATION", "generation", .integer, isWide: true), Column("SINCE", "since", .age, isWide: true),
    ]
    package static let groups = [
        Column("NAME", "name"), Column("RULE", "rule"), Column("OVER", "scope"), Column("MAX", "limit", .integer),
        Column("HARD", "hard"), Column("MEMBERS", "memberCount", .integer), Column("TENANT", "tenant", isWide: true),
        Column("WEIGHT", "weight", .integer, isWide: true), Column("ID", "id", .integer, isWide: true),
    ]
    package static let tenants = [
        Column("NAME", "name"), Column("TIER", "tier"), Column("VMS", "usedCount", .integer),
        Column("VMS-MAX", "quota.vmCount", .integer), Column("CPU", "used.cpuMillis", .cores),
        Column("CPU-MAX", "quota.cpuMillis", .cores), Column("MEMORY", "used.memoryMiB", .mebibytes),
        Column("MEMORY-MAX", "quota.memoryMiB", .mebibytes), Column("DISK", "used.diskMiB", .mebibytes),
        Column("DISK-MAX", "quota.diskMiB", .mebibytes),
        Column("PRIORITY-MAX", "quota.priorityMax", .integer, isWide: true),
    ]
    package static let migrations = [
        Column("VM", "vm"), Column("TENANT", "tenant", isWide: true), Column("FROM", "from"), Column("TO", "to"),
        Column("PHASE", "phase"), Column("DONE", "progressMillis", .share), Column("COPIED", "copiedMiB", .mebibytes),
        Column("LEFT", "secondsLeft", .seconds), Column("CAUSE", "cause"), Column("INTENT", "intent"),
        Column("SINCE", "since", .age),
    ]
    package static let events = [
        Column("REVISION", "revision", isWide: true), Column("AGE", "time", .age), Column("KIND", "kind"),
        Column("VM", "vm"), Column("HOST", "host"), Column("BY", "by", isWide: true), Column("TEXT", "text"),
    ]
    package static let audit = [
        Column("REVISION", "revision", isWide: true), Column("AGE", "time", .age), Column("BY", "by"),
        Column("KIND", "kind"), Column("VM", "vm"), Column("HOST", "host"), Column("TEXT", "text"),
    ]
    package static let cells = [
        Column("NAME", "name"), Column("REGION", "region"), Column("SURVIVES", "survives"),
        Column("HOSTS", "hosts", .integer), Column("STATE", "state"), Column("LEADER", "leader"),
        Column("AT RISK", "risks"), Column("PLAN", "plan.kind"), Column("PLAN IS", "plan.state"),
        Column("NODES", "nodes", isWide: true),
        Column("GROUP", "group", .integer, isWide: true),
        Column("EPOCH", "epoch", .integer, isWide: true),
    ]
    package static let regions = [
        Column("NAME", "name"), Column("STATE", "state"), Column("NODES", "nodes", .integer),
        Column("REACHED", "reached", .integer), Column("GO ON", "goOn"), Column("WAIT", "wait"),
        Column("PLAN", "plan.direction"), Column("PLAN IS", "plan.state"),
        Column("EPOCH", "epoch", .integer, isWide: true), Column("BY", "by", isWide: true),
    ]
    package static let latencies = [
        Column("FROM", "from"), Column("TO", "region"), Column("MICROS", "micros", .integer),
        Column("SET", "setMicros", .integer), Column("MEASURED", "measuredMicros", .integer), Column("BY", "by"),
        Column("AGE", "at", .age),
    ]
    package static let plannedCells = [
        Column("CELL", "cell"), Column("VMS", "vms", .integer), Column("WITHOUT PLACE", "waitedBefore", .integer),
        Column("MOVED", "moved", .integer), Column("MOVING", "moving", .integer), Column("AWAY", "away", .integer),
        Column("WITHIN", "migrate", .integer), Column("WAIT", "wait", .integer), Column("WAVES", "waves", .integer),
        Column("EXPECTED-MS", "expectedMillis", .integer), Column("BEYOND", "beyond", .integer, isWide: true),
        Column("AT-LEAST-MS", "atLeastMillis", .integer, isWide: true),
        Column("COMPLETE", "isComplete", isWide: true), Column("INDEX", "index", .integer, isWide: true),
    ]
    package static let rehearsedCells = [
        Column("CELL", "cell"), Column("GOES ON", "goesOn"), Column("HOSTS", "hosts", .integer),
        Column("VMS", "vms", .integer), Column("WAITED", "waitedBefore", .integer),
        Column("RESTART", "restart", .integer), Column("STOPPED FOR ROOM", "preempted", .integer, isWide: true),
        Column("AWAY", "away", .integer), Column("WAIT", "wait", .integer), Column("WAVES", "waves", .integer),
        Column("SILENCE-MS", "silenceMillis", .integer, isWide: true), Column("AT-LEAST-MS", "atLeastMillis", .integer),
        Column("EXPECTED-MS", "expectedMillis", .integer), Column("BEYOND", "beyond", .integer, isWide: true),
        Column("LEADER THERE", "leaderIsThere", isWide: true), Column("COMPLETE", "isComplete", isWide: true),
        Column("INDEX", "index", .integer, isWide: true),
    ]
    package static let cellLosses = [
        Column("LOST", "scope"), Column("REGION", "region"), Column("ZONE", "zone"),
        Column("REPLICAS", "replicas", .integer), Column("ELSEWHERE", "elsewhere", .integer),
        Column("ENTRIES", "entries", .integer), Column("LAG-MS", "lagMillis", .integer), Column("GOES ON", "goesOn"),
        Column("BEST", "best", isWide: true), Column("CATCH-UP", "catchUpEntries", .integer, isWide: true),
        Column("WHAT", "text"),
    ]
    package static let tierRecoveries = [
        Column("TIER", "tier"), Column("LOST", "lostAt", .age), Column("VMS", "vms", .integer),
        Column("DOWN-MS", "millis", .integer), Column("RTO", "rto"), Column("MISSED", "isMissed"),
        Column("LONGEST-MS", "longestMillis", .integer), Column("LOSSES", "losses", .integer),
        Column("OF THEM MISSED", "missed", .integer),
    ]
    package static let cellReserve = [
        Column("OF", "kind"), Column("LEFT", "left", .integer), Column("FREE", "free", .integer),
        Column("WORST LOSS", "worst", .integer), Column("LARGEST", "largest", .integer),
        Column("OWED", "owed", .integer), Column("LOSS OF", "losses"),
    ]
    package static let rehearsalTargets = [
        Column("CELL", "cell"), Column("REGION", "region"), Column("VMS", "vms", .integer),
        Column("CPU", "demand.cpuMillis", .cores), Column("CPU-FREE", "free.cpuMillis", .cores),
        Column("MEMORY", "demand.memoryMiB", .mebibytes), Column("MEMORY-FREE", "free.memoryMiB", .mebibytes),
        Column("TOO MUCH", "isOverbooked"), Column("AGE-MS", "ageMillis", .integer),
    ]
    package static let rehearsalWaits = [
        Column("CELL", "cell"), Column("CAUSE", "cause"), Column("VMS", "vms", .integer),
    ]
    package static let rehearsalSteps = [
        Column("VM", "vm"), Column("TENANT", "tenant", isWide: true), Column("CELL", "cell"), Column("FATE", "fate"),
        Column("TO", "to"), Column("REGION", "region"), Column("WAVE", "wave", .integer),
        Column("STOPPED FOR ROOM", "isPreempted", isWide: true), Column("WHY", "text"),
    ]
    package static let steps = [
        Column("ACTION", "action"), Column("VM", "vm"), Column("FROM", "from"), Column("TO", "to"),
        Column("COST", "cost", .mebibytes), Column("GAIN", "gain", .integer), Column("TENANT", "tenant", isWide: true),
    ]
    package static let changes = [
        Column("FIELD", "field"), Column("NOW", "before"), Column("THEN", "after"), Column("WHAT", "text"),
    ]
    package static let losses = [
        Column("LOST", "name"), Column("HOSTS", "hosts"), Column("RESTARTED", "restarted", .integer),
        Column("STOPPED", "preempted", .integer), Column("DOWN", "downCount", .integer),
    ]
    package static let usage = [
        Column("NAME", "name"), Column("TENANT", "tenant", isWide: true), Column("HOST", "host"),
        Column("MEMORY", "memoryMiB", .mebibytes), Column("CPU", "cpuMillis", .cores),
        Column("UPTIME", "uptimeSeconds", .seconds), Column("ID", "id", .integer, isWide: true),
    ]
    package static let left = [
        Column("VM", "vm"), Column("TENANT", "tenant", isWide: true), Column("CAUSE", "cause"), Column("WHY", "text"),
    ]
}
