import ClusterBase
internal import Schema

// Images that are being removed, and shared disks that VMs left behind.
//
//     root: the removal begins at entry I ─▶ every cell: released at I ─▶ no VM of any cell has it ─▶ root: gone
//
// Whoever asks for a VM says up to which entry of the root it knew the images. A cell that has released one at I takes no VM
// that names it from somebody who knows less than I; and who knows I has seen itself that the image goes, or that it stayed,
// or came anew. So what is released needs no taking back. For as long as a removal may take, no VM with such a name comes
// from another cell: one that is looked for in one cell after the other can't be missed.

/// A note that an image was released.
struct ImageRelease: CellMapped {
    /// The root's entry that began its removal.
    var at: LogIndex
    var time: LogTime

    init(at: LogIndex, time: LogTime) {
        self.at = at
        self.time = time
    }
    init?(_ wire: WireImageRelease) { self.init(at: LogIndex(wire.at), time: LogTime(wire.time)) }
    var wire: WireImageRelease { WireImageRelease(at: at.rawValue, time: time.rawValue) }
}

/// What is left of a VM that is gone: disks in storage domains, which nobody writes to any more.
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
    }
    package var vm: VMID
    package var name: String
    package var tenant: String
    package var since: LogTime
    package var disks: [Disk]
    package init(vm: VMID, name: String, tenant: String, since: LogTime, disks: [Disk]) {
        self.vm = vm
        self.name = name
        self.tenant = tenant
        self.since = since
        self.disks = disks
    }
}

extension CellRemains: CellCoded, CellMapped {
    init?(_ wire: WireCellRemains) {
        self.init(
            vm: VMID(wire.vm), name: wire.name, tenant: wire.tenant, since: LogTime(wire.since),
            disks: wire.disks.map {
                Disk(name: $0.name, domain: $0.domain, hasImage: $0.hasImage, isKept: $0.isKept)
            })
    }
    var wire: WireCellRemains {
        WireCellRemains(
            vm: vm.rawValue, name: name, tenant: tenant, since: since.rawValue,
            disks: disks.map {
                WireCellRemains.Disk(name: $0.name, domain: $0.domain, hasImage: $0.hasImage, isKept: $0.isKept)
            })
    }
}

extension VMDescription {
    /// Of its disks' images, each once.
    /// A disk that keeps its name and is to be of another image.
    func diskOfOtherImage(than before: VMDescription) -> String? {
        disks.first { disk in before.disks.contains { $0.name == disk.name && $0.image != disk.image } }?.name
    }

    package var imageNames: [String] {
        var names: [String] = []
        for disk in disks where !disk.image.isEmpty && !names.contains(disk.image) { names.append(disk.image) }
        return names
    }
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
        access.put(key, ImageRelease(at: at, time: time).encoded())
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

    /// Whether an image of a VM that is to come from another cell may be in the midst of a removal.
    func isReleasing(_ spec: VMDescription, _ tenant: String) throws(StoreError) -> Bool {
        for name in spec.imageNames {
            for owner in [tenant, ""] {
                let release = try access.record(ImageRelease.self, CellKey.imageRelease(owner, name))
                if let release, time < release.time.advanced(by: CellLimits.imageReleaseTime) { return true }
            }
        }
        return false
    }

    // MARK: Disks

    /// Notes the shared disks of a VM that may have run: nothing of it runs any more.
    mutating func leaveRemains(of vm: CellVM) {
        guard level >= FeatureLevel.images, vm.epochHighest > 0 else { return }
        var disks: [CellRemains.Disk] = []
        for disk in vm.spec.disks {
            guard case .shared(let domain) = disk.kind else { continue }
            disks.append(
                CellRemains.Disk(
                    name: disk.name, domain: domain, hasImage: !disk.image.isEmpty, isKept: disk.isKept))
        }
        // Beyond the bound they stay, and nobody knows of them but the log of events.
        if disks.isEmpty || summary.remains >= CellLimits.remainsMax { return }
        let remains = CellRemains(vm: vm.id, name: vm.name, tenant: vm.tenant, since: time, disks: disks)
        access.put(CellTable.remains.key(vm.id.rawValue), remains.encoded())
        summary.remains += 1
    }

    mutating func dropRemains(_ vms: [VMID]) throws(StoreError) -> CellResult.Outcome {
        if vms.count > CellLimits.itemsMax { return .refused(.tooMany(.items)) }
        for vm in vms {
            let key = CellTable.remains.key(vm.rawValue)
            guard try access.value(for: key) != nil else { continue }
            access.delete(key)
            summary.remains -= 1
        }
        return .done
    }
}
