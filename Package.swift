// swift-tools-version: 6.2
//
// The folders of Sources are the layers; a folder inside one is a target. The fence at the end of this file refuses a
// pure target that depends on an impure one, and an arrow that this table does not name does not build.

import PackageDescription

enum Layer: String {
    case base = "Base"
    case clibs = "CLibs"
    case core = "Core"
    case io = "IO"
    case node = "Node"
    case simulation = "Simulation"
    case programs = "Programs"

    /// A pure layer takes time, randomness, storage and network as arguments.
    var isPure: Bool { ![.clibs, .io, .programs].contains(self) }
}

struct Room {
    let name: String
    let layer: Layer
    let imports: [String]
}

let rooms: [Room] = [
    Room(name: "CLZ4", layer: .clibs, imports: []),
    Room(name: "CRocksDB", layer: .clibs, imports: []),
    Room(name: "CProcessor", layer: .clibs, imports: []),
    Room(name: "ClusterBase", layer: .base, imports: ["CProcessor"]),
    Room(name: "BinaryCoding", layer: .base, imports: ["ClusterBase"]),
    Room(name: "Schema", layer: .base, imports: ["BinaryCoding", "ClusterBase"]),
    Room(name: "RaftCore", layer: .core, imports: ["ClusterBase"]),
    Room(name: "FleetModel", layer: .core, imports: ["ClusterBase", "BinaryCoding", "Schema"]),
    Room(name: "Placement", layer: .core, imports: ["ClusterBase", "FleetModel"]),
    Room(
        name: "WireFormat", layer: .core,
        imports: ["ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "NodePorts"]),
    Room(name: "NodePorts", layer: .core, imports: ["ClusterBase", "RaftCore", "FleetModel"]),
    Room(name: "AdminAPI", layer: .core, imports: ["ClusterBase", "FleetModel"]),
    Room(
        name: "StoreLayout", layer: .core,
        imports: ["ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "WireFormat", "NodePorts"]),
    Room(
        name: "Controllers", layer: .core,
        imports: ["ClusterBase", "RaftCore", "FleetModel", "NodePorts", "Placement"]),
    Room(name: "SeedImage", layer: .core, imports: []),
    Room(name: "GuardCore", layer: .core, imports: ["ClusterBase", "FleetModel"]),
    Room(
        name: "NodeRuntime", layer: .node,
        imports: [
            "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "WireFormat", "NodePorts",
            "StoreLayout", "Controllers",
        ]),
    Room(name: "Compression", layer: .io, imports: ["CLZ4"]),
    Room(name: "Terminal", layer: .io, imports: []),
    Room(
        name: "BackupFormat", layer: .io,
        imports: [
            "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "WireFormat", "NodePorts", "StoreLayout",
            "Compression",
        ]),
    Room(name: "KeyValueStore", layer: .io, imports: ["CRocksDB", "ClusterBase", "NodePorts"]),
    Room(
        name: "NodeStorage", layer: .io,
        imports: ["ClusterBase", "RaftCore", "NodePorts", "StoreLayout", "KeyValueStore"]),
    Room(name: "CLinux", layer: .clibs, imports: []),
    Room(name: "CTap", layer: .clibs, imports: []),
    Room(name: "CUser", layer: .clibs, imports: []),
    Room(name: "CommandSyntax", layer: .core, imports: ["ClusterBase"]),
    Room(name: "FleetCommands", layer: .core, imports: ["ClusterBase", "AdminAPI", "CommandSyntax"]),
    Room(name: "AgentConfig", layer: .core, imports: ["ClusterBase", "CommandSyntax"]),
    Room(name: "COpenSSL", layer: .clibs, imports: []),
    Room(name: "CGuard", layer: .clibs, imports: []),
    Room(name: "Reactor", layer: .io, imports: ["CLinux", "ClusterBase"]),
    Room(name: "TLSSession", layer: .io, imports: ["ClusterBase", "COpenSSL"]),
    Room(name: "SecureChannel", layer: .io, imports: ["ClusterBase", "Reactor", "TLSSession"]),
    Room(
        name: "PeerTransport", layer: .io,
        imports: [
            "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "WireFormat", "NodePorts", "Reactor", "TLSSession",
            "SecureChannel",
        ]),
    Room(
        name: "AdminHTTP", layer: .io,
        imports: [
            "ClusterBase", "RaftCore", "FleetModel", "NodePorts", "AdminAPI", "Reactor", "TLSSession",
            "SecureChannel",
        ]),
    Room(
        name: "Hypervisor", layer: .io,
        imports: ["CTap", "CUser", "ClusterBase", "FleetModel", "NodePorts", "AdminAPI", "SeedImage", "Reactor"]),
    Room(
        name: "Guard", layer: .io,
        imports: [
            "CGuard", "ClusterBase", "BinaryCoding", "Schema", "FleetModel", "AdminAPI", "GuardCore", "Reactor",
            "TLSSession", "AdminHTTP",
        ]),
    Room(name: "HistoryChecker", layer: .simulation, imports: ["ClusterBase"]),
    Room(
        name: "Simulator", layer: .simulation,
        imports: [
            "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "WireFormat", "NodePorts",
            "StoreLayout", "Controllers", "NodeRuntime", "HistoryChecker",
        ]),
    Room(
        name: "SimulatorFront", layer: .programs,
        imports: ["ClusterBase", "RaftCore", "FleetModel", "Simulator", "Terminal"]),
    Room(
        name: "muster", layer: .programs,
        imports: [
            "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "NodePorts", "StoreLayout",
            "Controllers", "NodeRuntime",
            "AdminAPI", "AgentConfig", "BackupFormat", "CommandSyntax", "FleetCommands", "Compression", "KeyValueStore",
            "NodeStorage", "Reactor", "TLSSession", "SecureChannel", "PeerTransport", "AdminHTTP", "Hypervisor",
            "Guard",
            "HistoryChecker", "Simulator", "SimulatorFront", "Placement", "Terminal",
        ]),
]

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .enableUpcomingFeature("ImmutableWeakCaptures"),
]

let testSettings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

func target(_ room: Room) -> Target {
    let path = "Sources/\(room.layer.rawValue)/\(room.name)"
    if room.layer == .clibs { return .systemLibrary(name: room.name, path: path) }
    let dependencies = room.imports.map { Target.Dependency.byName(name: $0) }
    let settings = strict + (room.layer.isPure ? [.strictMemorySafety()] : [])
    // Rounding is in the C library's mathematics, which only an import of that library would link.
    let libraries: [LinkerSetting] = room.layer.isPure ? [.linkedLibrary("m")] : []
    return room.name == "muster"
        ? .executableTarget(
            name: room.name, dependencies: dependencies, path: path, swiftSettings: settings)
        : .target(
            name: room.name, dependencies: dependencies, path: path, swiftSettings: settings, linkerSettings: libraries)
}

func tests(_ name: String, _ imports: [String], exclude: [String] = []) -> Target {
    .testTarget(
        name: name, dependencies: imports.map { .byName(name: $0) }, path: "Tests/\(name)", exclude: exclude,
        swiftSettings: testSettings)
}

let package = Package(
    name: "muster",
    products: [
        .executable(name: "muster", targets: ["muster"]),
        .library(name: "RaftCore", targets: ["RaftCore", "ClusterBase"]),
        .library(name: "Placement", targets: ["Placement", "FleetModel", "ClusterBase"]),
        .library(name: "Simulator", targets: ["Simulator", "HistoryChecker", "ClusterBase"]),
    ],
    targets: rooms.map(target) + [
        // Everything that reads bytes from outside, under libFuzzer in `Tools/check fuzz`; elsewhere a replay of its
        // corpus.
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "AdminAPI", "AgentConfig", "BackupFormat", "BinaryCoding", "ClusterBase", "Compression", "FleetModel",
                "NodePorts", "PeerTransport", "Schema", "TLSSession", "WireFormat",
            ],
            path: "Tools/Fuzz",
            exclude: ["Corpus"],
            swiftSettings: [.treatAllWarnings(as: .error), .enableUpcomingFeature("ExistentialAny")]),
        // The simulator's front end alone, for `Tools/check mutants`, which builds it with the known bugs in it; and what
        // holds the core itself to account: the bugs' own scripts and budgets of allocations.
        .executableTarget(
            name: "mutants",
            dependencies: [
                "ClusterBase", "RaftCore", "SimulatorFront", "Terminal", "AllocationCounter", "RaftScripts",
            ],
            path: "Tools/Mutants",
            swiftSettings: [.treatAllWarnings(as: .error), .enableUpcomingFeature("ExistentialAny")]),
        tests("ClusterBaseTests", ["ClusterBase"]),
        tests("BinaryCodingTests", ["ClusterBase", "BinaryCoding", "Schema"]),
        // Counts allocations of a thread, for what holds the hot path to a number of them.
        .target(
            name: "AllocationCounter", path: "Tests/AllocationCounter", cSettings: [.treatAllWarnings(as: .error)]),
        // A group of replicas as values, and a scripted run for each bug that others shipped.
        .target(
            name: "RaftScripts", dependencies: ["ClusterBase", "RaftCore"], path: "Tests/RaftScripts",
            swiftSettings: testSettings),
        tests("RaftCoreTests", ["ClusterBase", "RaftCore", "RaftScripts"], exclude: ["scenarios"]),
        tests("FleetModelTests", ["ClusterBase", "BinaryCoding", "Schema", "FleetModel"]),
        tests("AdminAPITests", ["ClusterBase", "FleetModel", "AdminAPI", "AllocationCounter"]),
        tests("PlacementTests", ["ClusterBase", "FleetModel", "Placement"]),
        tests(
            "WireFormatTests",
            ["ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "NodePorts", "WireFormat"]),
        tests(
            "StoreLayoutTests",
            [
                "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "WireFormat", "NodePorts",
                "StoreLayout", "Simulator",
            ]),
        tests(
            "NodeRuntimeTests",
            ["ClusterBase", "RaftCore", "FleetModel", "NodePorts", "StoreLayout", "NodeRuntime", "Simulator"]),
        tests("CompressionTests", ["ClusterBase", "Compression"]),
        tests(
            "BackupFormatTests",
            [
                "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "FleetModel", "NodePorts", "StoreLayout",
                "Simulator",
                "BackupFormat",
            ]),
        // A directory of a test's own, and what a crash would leave of one that a store is working in.
        .target(name: "StoreFolder", path: "Tests/StoreFolder", swiftSettings: testSettings),
        tests("KeyValueStoreTests", ["ClusterBase", "NodePorts", "Simulator", "KeyValueStore", "StoreFolder"]),
        tests(
            "NodeStorageTests",
            ["ClusterBase", "RaftCore", "NodePorts", "StoreLayout", "KeyValueStore", "NodeStorage", "StoreFolder"]),
        tests("ControllersTests", ["ClusterBase", "RaftCore", "FleetModel", "Placement", "Controllers"]),
        tests("SeedImageTests", ["SeedImage"]),
        tests("GuardCoreTests", ["ClusterBase", "FleetModel", "GuardCore"]),
        tests("GuardTests", ["ClusterBase", "FleetModel", "Reactor", "Guard", "muster"]),
        tests(
            "HypervisorTests",
            [
                "ClusterBase", "RaftCore", "FleetModel", "NodePorts", "Simulator", "Reactor", "TLSSession",
                "PeerTransport", "Hypervisor", "Guard", "muster",
            ]),
        tests(
            "HostTests", ["ClusterBase", "RaftCore", "FleetModel", "NodePorts", "Controllers", "Simulator"]),
        tests("HistoryCheckerTests", ["ClusterBase", "HistoryChecker"]),
        tests(
            "SimulationTests", ["ClusterBase", "RaftCore", "FleetModel", "HistoryChecker", "Simulator"],
            exclude: ["traces.txt"]),
        tests("ReactorTests", ["ClusterBase", "Reactor"]),
        tests("SecureChannelTests", ["ClusterBase", "Reactor", "TLSSession", "SecureChannel"]),
        tests(
            "PeerTransportTests",
            [
                "ClusterBase", "BinaryCoding", "Schema", "RaftCore", "NodePorts", "Reactor", "TLSSession",
                "SecureChannel", "PeerTransport",
            ]),
        tests("CommandSyntaxTests", ["ClusterBase", "CommandSyntax"]),
        tests("FleetCommandsTests", ["ClusterBase", "FleetModel", "AdminAPI", "CommandSyntax", "FleetCommands"]),
        tests("AgentConfigTests", ["ClusterBase", "CommandSyntax", "AgentConfig"]),
        tests(
            "AdminHTTPTests",
            [
                "ClusterBase", "FleetModel", "AdminAPI", "AdminHTTP", "Reactor", "TLSSession", "SecureChannel",
            ]),
        tests("TLSSessionTests", ["ClusterBase", "TLSSession", "AllocationCounter"]),
        tests("ArchitectureTests", []),
        tests("ProcessTests", ["muster"]),
    ],
    swiftLanguageModes: [.v6]
)

// The fence.
let layers = Dictionary(uniqueKeysWithValues: rooms.map { ($0.name, $0.layer) })
for room in rooms {
    for name in room.imports {
        guard let layer = layers[name] else {
            fatalError("\(room.name) imports \(name), which is no room of this house")
        }
        // Instructions of the processor are functions of their arguments: nothing of the world is in them.
        if room.layer.isPure && !layer.isPure && name != "CProcessor" {
            fatalError("\(room.name) is pure and may not depend on \(name), which acts on the world")
        }
    }
}
