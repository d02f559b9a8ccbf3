import ClusterBase

/// The checks of a command's fields that need no state. Each refusal names the field and says what may be there.
enum CellCheck {
    static let nameRule =
        "a name has 1 to \(CellLimits.nameBytesMax) lower-case letters, digits, dots and hyphens, and begins and ends with "
        + "a letter or digit"
    static let textRule = "it has 1 to \(CellLimits.textBytesMax) bytes and no control characters"

    static func isName(_ name: String) -> Bool {
        let bytes = name.utf8
        guard let first = bytes.first, bytes.count <= CellLimits.nameBytesMax else { return false }
        func isPlain(_ byte: UInt8) -> Bool {
            (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z"))
                || (byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"))
        }
        var last = first
        for byte in bytes {
            if !isPlain(byte) && byte != UInt8(ascii: "-") && byte != UInt8(ascii: ".") { return false }
            last = byte
        }
        return isPlain(first) && isPlain(last)
    }

    static func isText(_ text: String, _ most: Int = CellLimits.textBytesMax) -> Bool {
        if text.utf8.count > most { return false }
        for byte in text.utf8 where byte < 0x20 || byte == 0x7F { return false }
        return true
    }

    private static func isWord(_ text: String) -> Bool { !text.isEmpty && isText(text) }

    private static func refuse(_ field: String, _ text: String) -> CellRefusal { .invalid(field: field, text) }

    private static func counted(_ field: String, _ count: Int, _ most: Int) -> CellRefusal? {
        count > most ? refuse(field, "at most \(most) of them; leave some out") : nil
    }

    private static func words(_ field: String, _ words: [String]) -> CellRefusal? {
        for word in words where !isWord(word) { return refuse(field, textRule) }
        return nil
    }

    private static func labels(_ field: String, _ labels: [Named]) -> CellRefusal? {
        if labels.isEmpty { return nil }
        if let refusal = counted(field, labels.count, CellLimits.listMax) { return refusal }
        for (i, label) in labels.enumerated() {
            if !isWord(label.key) { return refuse(field, "a key: \(textRule)") }
            if !isText(label.value) {
                return refuse(field, "a value has at most \(CellLimits.textBytesMax) bytes and no control characters")
            }
            if labels[..<i].contains(where: { $0.key == label.key }) {
                return refuse(field, "\(label.key) is there twice; leave one out")
            }
        }
        return nil
    }

    private static let amountRule = "amounts are from 0 to \(Resources.amountMax)"

    // MARK: Hosts

    static func refusal(of about: HostDescription) -> CellRefusal? {
        if !isName(about.name) { return refuse("name", nameRule) }
        for part in [about.locality.region, about.locality.zone, about.locality.rack, about.driver]
        where !isText(part) { return refuse("locality", textRule) }
        if !about.capacity.isValid { return refuse("capacity", amountRule) }
        if let refusal = counted("numaNodes", about.numaNodes.count, Host.numaNodesMax) { return refusal }
        for node in about.numaNodes
        where !Resources(cpuMillis: node.cpuMillis, memoryMiB: node.memoryMiB).isValid {
            return refuse("numaNodes", amountRule)
        }
        if let refusal = counted("devices", about.devices.count, Host.devicesMax) { return refusal }
        for device in about.devices {
            if !isWord(device.kind) { return refuse("devices", "a kind: \(textRule)") }
            if let node = device.numaNode, Int(node) >= about.numaNodes.count {
                return refuse("devices", "one hangs on NUMA node \(node), which the host does not have")
            }
        }
        return labels("labels", about.labels)
            ?? counted("storageDomains", about.storageDomains.count, CellLimits.listMax)
            ?? words("storageDomains", about.storageDomains)
            ?? counted("networks", about.networks.count, CellLimits.listMax) ?? words("networks", about.networks)
            ?? problems(about.storageProblems)
            ?? (isText(about.guestUser, CellLimits.problemBytesMax) ? nil : refuse("guestUser", textRule))
    }

    private static func problems(_ problems: [Named]) -> CellRefusal? {
        if let refusal = counted("storageProblems", problems.count, CellLimits.listMax) { return refusal }
        for problem in problems where !isWord(problem.key) || !isText(problem.value, CellLimits.problemBytesMax) {
            return refuse("storageProblems", textRule)
        }
        return nil
    }

    static func refusal(of policy: HostPolicy) -> CellRefusal? {
        if !policy.reserved.isValid { return refuse("reserved", amountRule) }
        let over = policy.overcommit
        for ratio in [over.cpuMilli, over.memoryMilli, over.diskMilli, over.networkMilli]
        where !(1...CellLimits.overcommitMax).contains(ratio) {
            return refuse("overcommit", "a ratio is from 1 to \(CellLimits.overcommitMax) thousandths")
        }
        if let refusal = labels("labels", policy.labels)
            ?? counted("taints", policy.taints.count, CellLimits.listMax)
        {
            return refusal
        }
        for taint in policy.taints where !isWord(taint.key) || !isText(taint.value) {
            return refuse("taints", textRule)
        }
        return nil
    }

    // MARK: VMs

    static func refusal(of creation: VMCreation) -> CellRefusal? {
        if !isName(creation.name) { return refuse("name", nameRule) }
        if !isName(creation.tenant) { return refuse("tenant", nameRule) }
        return refusal(of: creation.spec)
    }

    static func refusal(of spec: VMDescription) -> CellRefusal? {
        if !spec.resources.isValid { return refuse("resources", amountRule) }
        if spec.resources.cpuMillis < 1 || spec.resources.memoryMiB < 1 {
            return refuse("resources", "a VM needs at least 1 thousandth of a core and 1 MiB of memory")
        }
        switch spec.numa {
        case .none: break
        case .nodes(let count), .fewest(max: let count):
            if !(1...Host.numaNodesMax).contains(count) {
                return refuse("numa", "a VM lies on 1 to \(Host.numaNodesMax) NUMA nodes")
            }
        }
        if let refusal = refusal(ofDevices: spec.devices) ?? refusal(ofDisks: spec.disks)
            ?? refusal(ofRules: spec)
        {
            return refusal
        }
        if case .shared(let domain)? = spec.tpm, !isWord(domain) {
            return refuse("tpm", "it is shared; name its storage domain")
        }
        if spec.restartsMax > 1_000 { return refuse("restartsMax", "at most 1000 restarts within ten minutes") }
        return byteCount(spec) > CellLimits.specBytesMax ? .tooMany(.specBytes) : nil
    }

    private static func refusal(ofDevices wishes: [VMDescription.NamedDeviceWish]) -> CellRefusal? {
        if let refusal = counted("devices", wishes.count, VMSpec.deviceWishesMax) { return refusal }
        for wish in wishes {
            if !(1...Host.devicesMax).contains(wish.count) || !(1...Device.wholeMillis).contains(wish.millis) {
                return refuse(
                    "devices", "a wish is for 1 to \(Host.devicesMax) devices of 1 to \(Device.wholeMillis) thousandths"
                )
            }
            if let refusal = counted("devices", wish.kinds.count, CellLimits.listMax) ?? words("devices", wish.kinds) {
                return refusal
            }
        }
        return nil
    }

    private static func refusal(ofDisks disks: [VMDescription.NamedDisk]) -> CellRefusal? {
        if let refusal = counted("disks", disks.count, CellLimits.disksMax) { return refusal }
        for (i, disk) in disks.enumerated() {
            if !isName(disk.name) { return refuse("disks", nameRule) }
            if disks[..<i].contains(where: { $0.name == disk.name }) {
                return refuse("disks", "\(disk.name) is there twice; rename one")
            }
            if !(1...CellLimits.diskMiBMax).contains(disk.sizeMiB) {
                return refuse("disks", "\(disk.name) has 1 to \(CellLimits.diskMiBMax) MiB")
            }
            if !isText(disk.image) { return refuse("disks", textRule) }
            if case .shared(let domain) = disk.kind, !isWord(domain) {
                return refuse("disks", "\(disk.name) is shared; name its storage domain")
            }
        }
        return nil
    }

    private static func refusal(ofRules spec: VMDescription) -> CellRefusal? {
        for (field, selectors) in [("required", spec.required), ("preferred", spec.preferred.map(\.selector))]
        where !selectors.isEmpty {
            if let refusal = counted(field, selectors.count, VMSpec.selectorsMax) { return refusal }
            for selector in selectors {
                if !isWord(selector.key) { return refuse(field, "a key: \(textRule)") }
                switch selector.match {
                case .oneOf(let values), .noneOf(let values):
                    if values.isEmpty || values.count > CellLimits.listMax || !values.allSatisfy({ isText($0) }) {
                        return refuse(field, "\(selector.key): name 1 to \(CellLimits.listMax) values")
                    }
                case .exists, .absent: break
                }
            }
        }
        for wish in spec.preferred where !(1...Preference.weightMax).contains(wish.weight) {
            return refuse("preferred", "a preference weighs from 1 to \(Preference.weightMax)")
        }
        if let refusal = counted("tolerations", spec.tolerations.count, CellLimits.listMax) { return refusal }
        for toleration in spec.tolerations where !isWord(toleration.key) || !isText(toleration.value ?? "") {
            return refuse("tolerations", textRule)
        }
        if let refusal = counted("networks", spec.networks.count, CellLimits.listMax)
            ?? words("networks", spec.networks) ?? counted("zones", spec.zones.count, CellLimits.listMax)
            ?? counted("regions", spec.regions.count, CellLimits.listMax) ?? words("regions", spec.regions)
            ?? counted("near", spec.near.count, CellLimits.listMax) ?? words("near", spec.near)
            ?? words("zones", spec.zones) ?? counted("groups", spec.groups.count, VMSpec.groupsMax)
            ?? labels("labels", spec.labels)
        {
            return refusal
        }
        if spec.nearWithin > CellLimits.nearWithinMax || (spec.nearWithin > 0 && spec.near.isEmpty) {
            return refuse(
                "nearWithin",
                "the round trip to the regions of near is bounded, by at most \(CellLimits.nearWithinMax) ms; name some there"
            )
        }
        for (i, group) in spec.groups.enumerated() {
            if !isName(group) { return refuse("groups", nameRule) }
            if spec.groups[..<i].contains(group) { return refuse("groups", "\(group) is there twice; leave one out") }
        }
        if let refusal = counted("annotations", spec.annotations.count, CellLimits.listMax) { return refusal }
        for note in spec.annotations where !isWord(note.key) || note.value.utf8.count > CellLimits.annotationBytesMax {
            return refuse(
                "annotations", "a value has at most \(CellLimits.annotationBytesMax) bytes; a key: \(textRule)")
        }
        return refusal(ofSecrets: spec)
    }

    static let wrongSealMark = refuse("secrets", "they were sealed for another VM; send their values again")

    private static func refusal(ofSecrets spec: VMDescription) -> CellRefusal? {
        if let refusal = counted("secrets", spec.secrets.count, CellLimits.listMax) { return refusal }
        var last: String?
        for secret in spec.secrets {
            guard let box = secret.box, !box.isEmpty else { return refuse("secrets", "\(secret.key) is not sealed") }
            if !isWord(secret.key) || box.count > CellLimits.secretBytesMax {
                return refuse(
                    "secrets", "a value has at most \(CellLimits.secretBytesMax) bytes sealed; a key: \(textRule)")
            }
            if last.map({ $0 >= secret.key }) ?? false { return refuse("secrets", "each key is there once, ascending") }
            if spec.annotations.contains(where: { $0.key == secret.key }) {
                return refuse("secrets", "\(secret.key) is an annotation, too; leave that out")
            }
            last = secret.key
        }
        return nil
    }

    /// Of the words whose lengths matter; the rest is bounded by counts.
    private static func byteCount(_ spec: VMDescription) -> Int {
        var sum = 0
        for note in spec.annotations { sum += note.key.utf8.count + note.value.utf8.count }
        for secret in spec.secrets { sum += secret.key.utf8.count + (secret.box?.count ?? 0) }
        for label in spec.labels { sum += label.key.utf8.count + label.value.utf8.count }
        for selector in spec.required + spec.preferred.map(\.selector) {
            sum += selector.key.utf8.count
            switch selector.match {
            case .oneOf(let values), .noneOf(let values): for value in values { sum += value.utf8.count }
            case .exists, .absent: break
            }
        }
        for wish in spec.devices { for kind in wish.kinds { sum += kind.utf8.count } }
        for disk in spec.disks { sum += disk.name.utf8.count + disk.image.utf8.count }
        return sum
    }

    static func refusal(of group: CellGroup) -> CellRefusal? {
        if !isName(group.name) { return refuse("name", nameRule) }
        if !isName(group.tenant) { return refuse("tenant", nameRule) }
        switch group.rule {
        case .spread(let most), .antiAffinity(let most):
            if !(1...1_000_000).contains(most) { return refuse("max", "from 1 to 1000000") }
        case .pack, .affinity: break
        }
        return (1...100).contains(group.weight) ? nil : refuse("weight", "from 1 to 100")
    }

    static func refusal(of quota: Quota) -> CellRefusal? {
        for amount in [quota.cpuMillis, quota.memoryMiB, quota.diskMiB]
        where !(0...Int64.max / 4).contains(amount ?? 0) {
            return refuse("quota", "amounts are not negative")
        }
        return nil
    }
}
