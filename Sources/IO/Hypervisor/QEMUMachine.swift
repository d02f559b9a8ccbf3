internal import AdminAPI
package import FleetModel
internal import Glibc
internal import NodePorts
internal import SeedImage

/// A VM's specification that this driver does not run: the field, and what to do.
package struct QEMURefusal: Error, Hashable, CustomStringConvertible {
    package var field: String
    package var description: String
    init(_ field: String, _ text: String) {
        self.field = field
        description = "\(field) \(text)"
    }
}

/// A QEMU machine for a VM: its disks and its argument list. Nothing of a specification reaches a shell, and nothing of it
/// becomes an option: numbers are formatted here, words are checked against what names may be, files lie below the
/// settings' directories, and the kernel's command line is one argument of its own.
package struct QEMUMachine: Hashable, Sendable {
    package enum Accelerator: String, Hashable, Sendable { case kvm, tcg }

    package struct Disk: Hashable, Sendable {
        package var path: String
        package var format: String
        package var sizeMiB: Int64
        package var image: (path: String, format: String)?
        /// Made anew at every start.
        package var isEphemeral: Bool
        /// Holds all of its image: other hosts may have the image elsewhere, or not at all.
        package var isWhole = false
        /// Of a shared one: where it lies.
        var home: StorageDirectory?
        /// It lies on the host, and moves with its guest.
        package var isOwn = false

        package static func == (a: Disk, b: Disk) -> Bool { a.path == b.path }
        package func hash(into hasher: inout Hasher) { hasher.combine(path) }
    }

    package static let annotations = [
        "cloud-init.network-config", "cloud-init.user-data", "qemu.append", "qemu.balloon", "qemu.firmware",
        "qemu.initrd", "qemu.kernel", "qemu.numa",
    ]
    /// What a running VM takes without being started anew.
    private static let changeable = [balloonKey]
    /// A guest is left that much of its memory at least.
    static let balloonMiBMin: Int64 = 16
    /// What annotations of this driver begin with.
    static let prefixes = ["qemu.", "cloud-init."]
    package static let appendBytesMax = 1_024
    package static let cpusMax = 255
    /// NUMA nodes that a guest can see.
    package static let numaNodesMax: Int64 = 8
    /// The network that needs nothing of the host: the guest reaches out through its QEMU process.
    package static let userNetwork = "user"

    package let vm: CellVM
    package let disks: [Disk]
    let directory: String
    /// By network; nil where the guest reaches out through its QEMU process.
    let taps: [Tap?]
    /// What cloud-init finds.
    let seed: CloudSeed?
    let tpm: GuestTPM?
    /// Nil for QEMU's own BIOS.
    let firmware: GuestFirmware?
    /// One is no topology.
    private let numaNodes: Int64
    private let kernel: String?
    private let initrd: String?
    private let append: String?
    /// What it boots from, if that is no disk.
    var files: [String] { [kernel, initrd].compactMap { $0 } }

    package init(_ vm: CellVM, _ settings: QEMUSettings, directory: String) throws(QEMURefusal) {
        self.vm = vm
        self.directory = directory
        let spec = vm.spec
        for annotation in spec.annotations where QEMUMachine.isOwn(annotation.key) {
            guard QEMUMachine.annotations.contains(annotation.key) else {
                throw QEMURefusal("annotations.\(annotation.key)", "is none that the QEMU driver knows; leave it out")
            }
        }
        func annotation(_ key: String) -> String? { spec.annotations.first { $0.key == key }?.value }
        func file(_ key: String) throws(QEMURefusal) -> String? {
            guard let name = annotation(key) else { return nil }
            return try QEMUMachine.image(name, "annotations.\(key)", settings, mayBeCatalogue: false)
        }
        kernel = try file("qemu.kernel")
        initrd = try file("qemu.initrd")
        append = annotation("qemu.append")
        if kernel == nil, initrd != nil || append != nil {
            throw QEMURefusal("annotations.qemu.kernel", "is missing; an initrd or a command line needs a kernel")
        }
        if let append, append.utf8.count > QEMUMachine.appendBytesMax || append.utf8.contains(where: { $0 < 32 }) {
            throw QEMURefusal(
                "annotations.qemu.append", "has at most \(QEMUMachine.appendBytesMax) bytes and no control characters")
        }
        guard (8...(1 << 24)).contains(spec.resources.memoryMiB) else {
            throw QEMURefusal("resources.memoryMiB", "must be from 8 to 16777216 for a QEMU machine")
        }
        guard QEMUMachine.cpus(spec) <= QEMUMachine.cpusMax else {
            throw QEMURefusal("resources.cpuMillis", "is more than \(QEMUMachine.cpusMax) CPUs of a QEMU machine")
        }
        firmware = try QEMUMachine.firmware(annotation("qemu.firmware"), settings, directory)
        numaNodes = try QEMUMachine.numaNodes(annotation("qemu.numa"), spec)
        if QEMUMachine.hasBalloon(spec), QEMUMachine.balloonMiB(spec) == nil {
            throw QEMURefusal(
                "annotations.qemu.balloon",
                "is no number of MiB from \(QEMUMachine.balloonMiBMin) to the VM's memory, \(spec.resources.memoryMiB)")
        }
        if annotation("cloud-init.network-config") != nil, annotation("cloud-init.user-data") == nil {
            throw QEMURefusal("annotations.cloud-init.user-data", "is missing; it may be empty")
        }
        seed = annotation("cloud-init.user-data").map { userData in
            CloudSeed(
                instance: "muster-\(vm.id)", hostname: vm.name, userData: userData,
                networkConfig: annotation("cloud-init.network-config"))
        }
        var taps: [Tap?] = []
        for network in spec.networks {
            taps.append(try QEMUMachine.tap(network, number: taps.count, vm.id, settings))
        }
        self.taps = taps
        if !spec.devices.isEmpty {
            throw QEMURefusal("devices", "are not given to guests by the QEMU driver so far; leave them out")
        }
        if let kind = spec.tpm {
            tpm = try GuestTPM(kind, vm.id, settings, directory: directory)
        } else {
            tpm = nil
        }
        var disks: [Disk] = []
        for disk in spec.disks {
            disks.append(try QEMUMachine.disk(disk, vm.id, settings, directory))
        }
        self.disks = disks
    }

    private static func firmware(
        _ word: String?, _ settings: QEMUSettings, _ directory: String
    ) throws(QEMURefusal) -> GuestFirmware? {
        switch word {
        case nil, "bios": nil
        case "uefi": try GuestFirmware(settings, directory: directory)
        case let other?: throw QEMURefusal("annotations.qemu.firmware", "is '\(other)'; it is bios or uefi")
        }
    }

    /// Nodes of a guest are as large as each other.
    private static func numaNodes(_ word: String?, _ spec: VMDescription) throws(QEMURefusal) -> Int64 {
        guard let word else { return 1 }
        let (cpus, memory) = (cpus(spec), spec.resources.memoryMiB)
        guard let nodes = Int64(word), (1...numaNodesMax).contains(nodes), cpus % nodes == 0, memory % nodes == 0 else {
            throw QEMURefusal(
                "annotations.qemu.numa",
                "is '\(word)'; it is from 1 to \(numaNodesMax) and divides the VM's \(cpus) CPUs and \(memory) MiB evenly"
            )
        }
        return nodes
    }

    /// What its process may take: the guest's share and what QEMU needs beside it, for devices and, emulating, for the code that
    /// it makes.
    func limits(_ accelerator: Accelerator) -> GuestLimits {
        let memory = vm.spec.resources.memoryMiB
        return GuestLimits(
            cpuMillis: UInt64(max(0, vm.spec.resources.cpuMillis)) + QEMUMachine.overheadCPUMillis,
            memoryMiB: UInt64(memory + memory / 32) + QEMUMachine.overheadMiB
                + (accelerator == .tcg ? QEMUMachine.translationMiB : 0))
    }

    static let overheadCPUMillis: UInt64 = 250
    static let overheadMiB: UInt64 = 256
    static let translationMiB: UInt64 = 1_024

    private static let balloonKey = "qemu.balloon"
    private static func hasBalloon(_ spec: VMDescription) -> Bool {
        spec.annotations.contains { $0.key == balloonKey }
    }

    /// What its guest is to be left of its memory; nil where that is not said, or can't be.
    static func balloonMiB(_ spec: VMDescription) -> Int64? {
        guard let word = spec.annotations.first(where: { $0.key == balloonKey })?.value, let wanted = Int64(word),
            wanted >= balloonMiBMin, wanted <= spec.resources.memoryMiB
        else { return nil }
        return wanted
    }

    /// At least one, and no part of one.
    static func cpus(_ spec: VMDescription) -> Int64 { max(1, (spec.resources.cpuMillis + 999) / 1_000) }

    /// True when both are the same machine, so that a running one can take the other's specification.
    static func isSameMachine(_ a: VMDescription, _ b: VMDescription) -> Bool {
        func own(_ spec: VMDescription) -> [Named] {
            spec.annotations.filter { isOwn($0.key) && !changeable.contains($0.key) }
        }
        return a.resources == b.resources && a.disks == b.disks && a.networks == b.networks && a.devices == b.devices
            && a.tpm == b.tpm && own(a) == own(b) && (balloonMiB(b) != nil || !hasBalloon(b))
    }

    private static func isOwn(_ key: String) -> Bool { prefixes.contains { key.hasPrefix($0) } }

    // MARK: Networks

    /// Ids that fit a tap's name.
    private static let tapHexMax = 12
    static let networksMax = 16

    private static func tap(
        _ network: String, number: Int, _ vm: VMID, _ settings: QEMUSettings
    ) throws(QEMURefusal) -> Tap? {
        if network == userNetwork { return nil }
        guard let bridge = settings.bridges[network] else {
            throw QEMURefusal(
                "networks", "has '\(network)', for which hypervisor.bridges of this host names no bridge")
        }
        if let problem = Tap.problem(ofBridge: bridge) { throw QEMURefusal("networks", "has '\(network)': \(problem)") }
        let hex = String(vm.rawValue, radix: 16)
        guard hex.utf8.count <= tapHexMax, number < networksMax else {
            throw QEMURefusal(
                "networks", "are more than \(networksMax), or the VM's id has more than \(tapHexMax) digits")
        }
        return Tap(name: settings.tapPrefix + hex + String(number, radix: 16), bridge: bridge, mac: mac(vm, number))
    }

    // MARK: Files

    static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        func isPlain(_ byte: UInt8) -> Bool {
            (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte) || byte == UInt8(ascii: "_")
        }
        guard (1...128).contains(bytes.count), isPlain(bytes[0]) else { return false }
        return bytes.allSatisfy { isPlain($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".") }
    }

    /// A file of the directory of images, wherever links lead; of a disk also one of the catalogue, whose name the agent wrote.
    private static func image(
        _ name: String, _ field: String, _ settings: QEMUSettings, mayBeCatalogue: Bool = true
    ) throws(QEMURefusal) -> String {
        guard isName(name) else {
            throw QEMURefusal(
                field, "is '\(name)'; name a file of hypervisor.images in letters, digits, dots, dashes and underscores"
            )
        }
        if mayBeCatalogue, name.hasPrefix(CatalogueName.prefix), !settings.cache.isEmpty {
            // Seen to and looked at by the agent before the order.
            guard let real = resolved(settings.cache + "/" + name.dropFirst(CatalogueName.prefix.count)),
                !real.utf8.contains(UInt8(ascii: ","))
            else { throw QEMURefusal(field, "is in the catalogue, and not on this host; start the VM again") }
            return real
        }
        let path = settings.images + "/" + name
        guard let root = resolved(settings.images), let real = resolved(path) else {
            throw QEMURefusal(field, "is '\(name)', which is not in hypervisor.images of this host; put it there")
        }
        guard real.hasPrefix(root + "/"), !real.utf8.contains(UInt8(ascii: ",")) else {
            throw QEMURefusal(field, "is '\(name)', a link that leads out of hypervisor.images; copy the file there")
        }
        return real
    }

    static func resolved(_ path: String) -> String? {
        guard let found = realpath(path, nil) else { return nil }
        defer { free(found) }
        return String(cString: found)
    }

    private static func disk(
        _ disk: VMDescription.NamedDisk, _ vm: VMID, _ settings: QEMUSettings, _ directory: String
    ) throws(QEMURefusal) -> Disk {
        let field = "disks.\(disk.name)"
        guard isName(disk.name) else {
            throw QEMURefusal("disks", "has the name '\(disk.name)'; use letters, digits, dots, dashes and underscores")
        }
        guard disk.sizeMiB > 0 else { throw QEMURefusal(field, "has no size") }
        var base: (path: String, format: String)?
        if !disk.image.isEmpty {
            let path = try image(disk.image, field + ".image", settings)
            base = (path, try format(ofImage: path, field + ".image"))
        }
        let format = base == nil ? "raw" : "qcow2"
        let path: String
        var isEphemeral = false
        var home: StorageDirectory?
        switch disk.kind {
        case .shared(let domain):
            let place = StorageDirectory(domain, in: settings.storage)
            if let problem = place.problem(settings.marks) { throw QEMURefusal(field, problem) }
            guard let real = place.folder else {
                throw QEMURefusal(field, "is in a storage domain that went away just now")
            }
            home = place
            path = "\(real)/\(SharedDisks.fileName(vm, disk.name, hasImage: base != nil))"
        case .local: path = "\(directory)/local-\(disk.name).\(format)"
        case .ephemeral:
            path = "\(directory)/ephemeral-\(disk.name).\(format)"
            isEphemeral = true
        }
        var made = Disk(path: path, format: format, sizeMiB: disk.sizeMiB, image: base, isEphemeral: isEphemeral)
        if home != nil { made.isWhole = disk.image.hasPrefix(CatalogueName.prefix) } else { made.isOwn = true }
        made.home = home
        return made
    }

    /// An image that names other files would let a guest read them.
    static func format(ofImage path: String, _ field: String) throws(QEMURefusal) -> String {
        var bytes = [UInt8](repeating: 0, count: ImageHead.byteCount)
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw QEMURefusal(field, "can't be read: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        let count = pread(file, &bytes, bytes.count, 0)
        let head = ImageHead(Array(bytes[..<max(0, count)]), size: 0)
        if !head.isQCOW2 { return "raw" }
        if head.namesOthers {
            throw QEMURefusal(field, "is a qcow2 file that names another file; convert it to one that stands alone")
        }
        return "qcow2"
    }

    // MARK: Arguments

    package func arguments(
        _ accelerator: Accelerator, isPaused: Bool, isArriving: Bool
    ) -> [String] {
        let id = vm.id.rawValue
        let hex = String(id, radix: 16)
        let place = VMDirectory(path: directory)
        let tail = String(repeating: "0", count: 12 - min(12, hex.count)) + hex.suffix(12)
        var list = [
            "-name", "guest=vm-\(id),process=muster-vm-\(id)", "-uuid", "6d757374-6572-4000-8000-\(tail)",
            "-nodefaults", "-no-user-config", "-display", "none", "-pidfile", place.mark,
            "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-machine", firmware == nil ? "q35" : "q35,pflash0=firmware-code,pflash1=firmware-variables",
            "-accel", accelerator.rawValue,
            // What every host of a cell with this accelerator has.
            "-cpu", accelerator == .kvm ? "Nehalem" : "qemu64",
            "-smp", processors, "-m", "size=\(vm.spec.resources.memoryMiB)M",
            "-chardev", "socket,id=qmp,path=\(place.monitorPath),server=on,wait=off",
            "-mon", "chardev=qmp,mode=control", "-chardev",
            "socket,id=serial,path=\(place.consolePath),server=on,wait=off,logappend=on,"
                + "logfile=\(place.serialPath)",
            "-serial", "chardev:serial", "-device", "pvpanic", "-device",
            "virtio-balloon-pci,id=balloon0,deflate-on-oom=on",
            "-device", "virtio-rng-pci", "-action", "panic=shutdown,reboot=reset,shutdown=poweroff",
        ]
        list += topology
        if let tpm { list += tpm.arguments }
        if let firmware {
            list += ["-blockdev", QEMUMachine.drive("raw", "firmware-code", firmware.code, isReadOnly: true)]
            list += ["-blockdev", QEMUMachine.drive("raw", "firmware-variables", firmware.variables)]
        }
        for (number, disk) in disks.enumerated() {
            let node = QEMUMachine.diskNode(number)
            list += ["-blockdev", QEMUMachine.drive(disk.format, node, disk.path, isThin: disk.isOwn)]
            list += ["-device", "virtio-blk-pci,drive=\(node),id=virtio-\(node)"]
        }
        if seed != nil {
            list += [
                "-blockdev", QEMUMachine.drive("raw", "seed", place.seedPath, isReadOnly: true),
            ]
            list += ["-device", "virtio-blk-pci,drive=seed,id=virtio-seed"]
        }
        for (number, tap) in taps.enumerated() {
            let network = tap.map { "tap,id=net\(number),ifname=\($0.name),script=no,downscript=no" }
            list += ["-netdev", network ?? "user,id=net\(number)"]
            list += [
                "-device", "virtio-net-pci,netdev=net\(number),mac=\(QEMUMachine.text(QEMUMachine.mac(vm.id, number)))",
            ]
        }
        if let kernel { list += ["-kernel", kernel] }
        if let initrd { list += ["-initrd", initrd] }
        if let append { list += ["-append", append] }
        if isPaused || isArriving { list += ["-S"] }
        if isArriving { list += ["-incoming", "defer"] }
        return list
    }

    private var processors: String {
        let cpus = QEMUMachine.cpus(vm.spec)
        return numaNodes == 1 ? "\(cpus)" : "\(cpus),sockets=\(numaNodes),cores=\(cpus / numaNodes),threads=1"
    }

    /// Its NUMA nodes, each with its part of CPUs and memory.
    private var topology: [String] {
        if numaNodes == 1 { return [] }
        let (cpus, memory) = (QEMUMachine.cpus(vm.spec) / numaNodes, vm.spec.resources.memoryMiB / numaNodes)
        return (0..<numaNodes).flatMap { node in
            [
                "-object", "memory-backend-ram,id=memory\(node),size=\(memory)M", "-numa",
                "node,nodeid=\(node),cpus=\(node * cpus)-\((node + 1) * cpus - 1),memdev=memory\(node)",
            ]
        }
    }

    static let diskPrefix = "disk"
    /// What QEMU calls a disk.
    static func diskNode(_ number: Int) -> String { "\(diskPrefix)\(number)" }

    /// A thin one gives back to its host what its guest, or a move, says to be empty.
    private static func drive(
        _ format: String, _ node: String, _ path: String, isReadOnly: Bool = false, isThin: Bool = false
    ) -> String {
        let discard = isThin ? [JSONMember("discard", .string("unmap"))] : []
        let file = JSONValue.object(
            [JSONMember("driver", .string("file")), JSONMember("filename", .string(path))] + discard)
        var members = [
            JSONMember("driver", .string(format)), JSONMember("node-name", .string(node)), JSONMember("file", file),
        ]
        members += discard
        if isReadOnly { members.append(JSONMember("read-only", .bool(true))) }
        var writer = JSONWriter()
        writer.value(.object(members))
        return String(decoding: writer.finish(), as: UTF8.self)
    }

    /// The same wherever the VM runs.
    private static func mac(_ vm: VMID, _ number: Int) -> [UInt8] {
        let id = vm.rawValue
        return [0x52, 0x54, UInt8(truncatingIfNeeded: id >> 40) ^ UInt8(truncatingIfNeeded: number) << 4]
            + (0..<3).map { UInt8(truncatingIfNeeded: id >> (16 - 8 * $0)) }
    }

    private static func text(_ mac: [UInt8]) -> String {
        mac.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}
