import ClusterBase
internal import Schema

// Images that are being removed, and shared disks that VMs left behind.
//
//     root: the removal begins at entry I ─▶ every cell: released at I ─▶ no VM of any cell has it ─▶ root: gone
//
// Whoever asks for a VM says up to which entry of the root it knew the images, and so does the cell that a VM comes from. A
// cell that has released one at I takes no VM that names it from somebody who knows less than I; and who knows I has seen itself
// that the image goes, and waits, or that it stayed, or came anew. So what is released needs no taking back, and one that is
// looked for in one cell after the other can't be missed.

/// A note that an image was released.
struct ImageRelease: CellMapped {
    /// The root's entry that began its removal.
    var at: LogIndex

    init(at: LogIndex) { self.at = at }
    init?(_ wire: WireImageRelease) { self.init(at: LogIndex(wire.at)) }
    var wire: WireImageRelease { WireImageRelease(at: at.rawValue) }
}

/// What is left of a VM that is gone, or was taken off one: disks in storage domains, which nobody writes to any more.
package struct CellRemains: Hashable, Sendable {
    package struct Disk: Hashable, Sendable {
        package var name: String
        package var domain: String
        /// It began with an image, and so its file is another one.
        package var hasImage: Bool
        /// It stays until people have looked after it.
        package var isKept: Bool
        package init(name: String, domain: String, hasImage: Bool, isKept: Bool) {
            self.name = name
            self.domain = domain
            self.hasImage = hasImage
            self.isKept = isKept
        }
        /// Of two of one VM: whether one would be taken for the other.
        func hasPlace(of other: Disk) -> Bool { name == other.name && domain == other.domain }
        func isFile(of other: Disk) -> Bool { hasPlace(of: other) && hasImage == other.hasImage }
    }
    /// Disks of a note that somebody has seen to. Of the note nothing else goes.
    package struct Left: Hashable, Sendable {
        package var vm: VMID
        package var disks: [Disk]
        package init(_ vm: VMID, _ disks: [Disk]) {
            self.vm = vm
            self.disks = disks
        }
    }
    package var vm: VMID
    package var name: String
    package var tenant: String
    package var since: LogTime
    package var disks: [Disk]
    /// The highest under which the VM may have had one of them: what runs under a later one has none.
    package var epoch: UInt64
    package init(vm: VMID, name: String, tenant: String, since: LogTime, disks: [Disk], epoch: UInt64) {
        self.vm = vm
        self.name = name
        self.tenant = tenant
        self.since = since
        self.disks = disks
        self.epoch = epoch
    }
    /// Those that a host is to remove.
    package var leaving: [Disk] { disks.filter { !$0.isKept } }
    /// Those that people look after.
    package var kept: [Disk] { disks.filter(\.isKept) }
}

extension CellRemains.Disk {
    init(_ wire: WireCellRemains.Disk) {
        self.init(name: wire.name, domain: wire.domain, hasImage: wire.hasImage, isKept: wire.isKept)
    }
    var wire: WireCellRemains.Disk {
        WireCellRemains.Disk(name: name, domain: domain, hasImage: hasImage, isKept: isKept)
    }
}

extension CellRemains: CellCoded, CellMapped {
    init?(_ wire: WireCellRemains) {
        self.init(
            vm: VMID(wire.vm), name: wire.name, tenant: wire.tenant, since: LogTime(wire.since),
            disks: wire.disks.map { Disk($0) }, epoch: wire.epoch)
    }
    var wire: WireCellRemains {
        WireCellRemains(
            vm: vm.rawValue, name: name, tenant: tenant, since: since.rawValue, disks: disks.map(\.wire), epoch: epoch)
    }
}

extension VMDescription {
    /// A disk that keeps its name and is to be of another image.
    func diskOfOtherImage(than before: VMDescription) -> String? {
        disks.first { disk in before.disks.contains { $0.name == disk.name && $0.image != disk.image } }?.name
    }

    /// Of its disks' images, each once.
    package var imageNames: [String] {
        var names: [String] = []
        for disk in disks where !disk.image.isEmpty && !names.contains(disk.image) { names.append(disk.image) }
        return names
    }

    /// What its TPM remembers goes with the VM as a disk does.
    var sharedDisks: [CellRemains.Disk] {
        var shared = disks.compactMap { disk -> CellRemains.Disk? in
            guard case .shared(let domain) = disk.kind else { return nil }
            return CellRemains.Disk(
                name: disk.name, domain: domain, hasImage: !disk.image.isEmpty, isKept: disk.isKept)
        }
        if case .shared(let domain)? = tpm {
            shared.append(CellRemains.Disk(name: Self.tpmName, domain: domain, hasImage: false, isKept: false))
        }
        return shared
    }

    /// What a TPM remembers among disks that are left; no disk has such a name.
    package static let tpmName = "tpm state"
}

extension CellStep {
    // MARK: Images

    mutating func releaseImage(
        _ tenant: String, _ name: String, at: LogIndex
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isName(name) || !(tenant.isEmpty || CellCheck.isName(tenant)) {
            return .refused(.invalid(field: "name", "1 to \(CellLimits.nameBytesMax) plain letters"))
        }
        let key = CellKey.imageRelease(tenant, name)
        if let known = try access.record(ImageRelease.self, key) {
            if known.at > at { return .done }
        } else {
            if summary.imageReleases >= CellLimits.imageReleasesMax { try forgetReleases() }
            summary.imageReleases += 1
        }
        access.put(key, ImageRelease(at: at).encoded())
        return .done
    }

    /// Drops the older half; whoever knows less than the newest of those names no image at all.
    private mutating func forgetReleases() throws(StoreError) {
        var all: [(at: LogIndex, key: [UInt8])] = []
        var bad: [UInt8]?
        try access.scan(.prefix([CellKey.Kind.imageRelease])) { key, value in
            guard let release = ImageRelease.decode(value) else {
                bad = key
                return false
            }
            all.append((release.at, key))
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        all.sort { ($0.at, $1.key.count) < ($1.at, $0.key.count) }
        for (at, key) in all.prefix((all.count + 1) / 2) {
            access.delete(key)
            summary.imageReleases -= 1
            summary.imagesFloor = max(summary.imagesFloor, at)
        }
    }

    /// Why a VM can't begin with the images that it names, as whoever asks for it knew them.
    func refusal(
        ofImages names: [String], _ tenant: String
    ) throws(StoreError) -> CellRefusal? {
        for name in names {
            for owner in [tenant, ""] {
                let release = try access.record(ImageRelease.self, CellKey.imageRelease(owner, name))
                if let release, imagesAt < release.at { return .imageReleased(name) }
            }
            if imagesAt < summary.imagesFloor { return .imageReleased(name) }
        }
        return nil
    }

    // MARK: Disks

    /// Notes the shared disks of a VM that may have run: nothing of it runs any more.
    mutating func leaveRemains(of vm: CellVM) throws(StoreError) {
        guard level >= FeatureLevel.images, vm.epochHighest > 0 else { return }
        let known = try access.record(CellRemains.self, CellTable.remains.key(vm.id.rawValue))?.disks ?? []
        let own = vm.spec.sharedDisks
        let disks = known.filter { disk in !own.contains { $0.isFile(of: disk) } } + own
        try putRemains(disks, of: vm)
    }

    /// Notes the shared disks that a change takes off a VM which may have run, and takes back those that were kept and are its
    /// own again. Says why it can't be changed so, and then has changed nothing.
    mutating func changeDisks(_ before: VMDescription, _ vm: inout CellVM) throws(StoreError) -> CellRefusal? {
        guard level >= FeatureLevel.images, vm.epochHighest > 0 else { return nil }
        let (old, new) = (before.sharedDisks, vm.spec.sharedDisks)
        let gone = old.filter { disk in !new.contains { $0.hasPlace(of: disk) } }
        let come = new.filter { disk in !old.contains { $0.hasPlace(of: disk) } }
        if gone.isEmpty && come.isEmpty { return nil }
        // Whoever is to remove the file may be slow, and would remove the new one.
        if let disk = come.first(where: { disk in vm.droppedDisks.contains { $0.hasPlace(of: disk) } }) {
            if disk.name == VMDescription.tpmName {
                return .invalid(
                    field: "tpm",
                    "a TPM of this VM in storage domain \(disk.domain) was taken off, and what it remembers goes; have the new one "
                        + "elsewhere, or make another VM")
            }
            return .invalid(
                field: "disks",
                "a disk \(disk.name) of this VM in storage domain \(disk.domain) was dropped, and its file goes; give the new disk "
                    + "another name")
        }
        if vm.migration != nil {
            return .invalid(field: "disks", "a copy of the VM is still to end on a host; change its disks after that")
        }
        let known = try access.record(CellRemains.self, CellTable.remains.key(vm.id.rawValue))?.disks ?? []
        let disks = known.filter { disk in !(come + gone).contains { $0.isFile(of: disk) } } + gone
        let dropped = vm.droppedDisks + gone.filter { !$0.isKept }
        if max(dropped.count, disks.count) > CellLimits.droppedDisksMax {
            return .invalid(
                field: "disks",
                "a VM drops at most \(CellLimits.droppedDisksMax) shared disks in its life; forget kept ones (`muster remains "
                    + "forget`), or make another VM")
        }
        vm.droppedDisks = dropped
        try putRemains(disks, of: vm)
        return nil
    }

    private mutating func putRemains(_ disks: [CellRemains.Disk], of vm: CellVM) throws(StoreError) {
        let key = CellTable.remains.key(vm.id.rawValue)
        let isNoted = try access.value(for: key) != nil
        if disks.isEmpty {
            if isNoted {
                access.delete(key)
                summary.remains -= 1
            }
            return
        }
        // Beyond the bound they stay, and nobody knows of them but the log of events.
        if !isNoted && summary.remains >= CellLimits.remainsMax { return }
        let remains = CellRemains(
            vm: vm.id, name: vm.name, tenant: vm.tenant, since: time, disks: disks, epoch: vm.epochHighest)
        access.put(key, remains.encoded())
        if !isNoted { summary.remains += 1 }
    }

    /// Of each note only the disks that are named go: others may have come to it since, or are kept.
    mutating func dropRemains(_ items: [CellRemains.Left]) throws(StoreError) -> CellResult.Outcome {
        if items.count > CellLimits.itemsMax { return .refused(.tooMany(.items)) }
        for item in items {
            let key = CellTable.remains.key(item.vm.rawValue)
            guard var remains = try access.record(CellRemains.self, key) else { continue }
            remains.disks.removeAll { item.disks.contains($0) }
            if remains.disks.isEmpty {
                access.delete(key)
                summary.remains -= 1
            } else {
                access.put(key, remains.encoded())
            }
        }
        return .done
    }
}
