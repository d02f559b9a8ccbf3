import ClusterBase
import FleetModel

extension PlacementIndex {
    static func check(_ host: Host) throws(IndexError) {
        if !host.capacity.isValid || !host.reserved.isValid {
            throw .badHost("host \(host.id): capacity and reservations must be from 0 to \(Resources.amountMax)")
        }
        let over = host.overcommit
        let ratios = [over.cpuMilli, over.memoryMilli, over.diskMilli, over.networkMilli]
        if ratios.contains(where: { $0 < 1 || $0 > 100_000 }) {
            throw .badHost("host \(host.id): overcommit must be from 1 to 100000 thousandths")
        }
        if host.numaNodes.count > Host.numaNodesMax || host.devices.count > Host.devicesMax {
            throw .badHost(
                "host \(host.id): at most \(Host.numaNodesMax) NUMA nodes and \(Host.devicesMax) devices are supported")
        }
        for node in host.numaNodes {
            if !Resources(cpuMillis: node.cpuMillis, memoryMiB: node.memoryMiB).isValid {
                throw .badHost("host \(host.id): a NUMA node's amounts must be from 0 to \(Resources.amountMax)")
            }
        }
        for device in host.devices {
            if let node = device.numaNode, Int(node) >= host.numaNodes.count {
                throw .badHost("host \(host.id): a device hangs on NUMA node \(node), which the host does not have")
            }
        }
    }

    /// What is wrong with a request in itself; nil when nothing is.
    static func problem(_ spec: VMSpec) -> String? {
        if !spec.resources.isValid { return "VM \(spec.id): amounts must be from 0 to \(Resources.amountMax)" }
        if spec.disks.contains(where: { $0.sizeMiB < 0 || $0.sizeMiB > Resources.amountMax / 64 })
            || spec.disks.count > 64
        {
            return "VM \(spec.id): at most 64 disks of at most \(Resources.amountMax / 64) MiB"
        }
        if spec.groups.count > VMSpec.groupsMax { return "VM \(spec.id): at most \(VMSpec.groupsMax) groups" }
        for i in spec.groups.indices where spec.groups[..<i].contains(spec.groups[i]) {
            return "VM \(spec.id): group \(spec.groups[i]) is named twice"
        }
        if spec.required.count > VMSpec.selectorsMax || spec.preferred.count > VMSpec.selectorsMax {
            return "VM \(spec.id): at most \(VMSpec.selectorsMax) selectors of each kind"
        }
        if spec.preferred.contains(where: { $0.weight < 1 || $0.weight > Preference.weightMax }) {
            return "VM \(spec.id): a preference weighs from 1 to \(Preference.weightMax)"
        }
        switch spec.numa {
        case .nodes(let n), .fewest(max: let n):
            if n < 1 || n > Host.numaNodesMax { return "VM \(spec.id): from 1 to \(Host.numaNodesMax) NUMA nodes" }
        case .none: break
        }
        if spec.devices.count > VMSpec.deviceWishesMax {
            return "VM \(spec.id): at most \(VMSpec.deviceWishesMax) device wishes"
        }
        for wish in spec.devices {
            if wish.count < 1 || wish.count > Host.devicesMax || wish.millis < 1 || wish.millis > Device.wholeMillis {
                return
                    "VM \(spec.id): a wish is for 1 to \(Host.devicesMax) devices of 1 to \(Device.wholeMillis) parts"
            }
        }
        return nil
    }

    static func mismatch(_ assignment: Assignment, _ host: Host) -> String? {
        if let node = assignment.numaNodes.first(where: { Int($0) >= host.numaNodes.count }) {
            return "host \(host.id) has no NUMA node \(node)"
        }
        if let use = assignment.devices.first(where: { Int($0.device) >= host.devices.count }) {
            return "host \(host.id) has no device \(use.device)"
        }
        return nil
    }

    // MARK: Seats

    @discardableResult
    mutating func seat(_ host: Host) -> Int {
        let classKey = HostClass(host)
        let hostClass: Int32
        if let known = classNumber[classKey] {
            hostClass = known
        } else {
            hostClass = Int32(classes.count)
            classes.append(classKey)
            classNumber[classKey] = hostClass
            classBlocks.append((0, -1))
        }
        let rack = domains.rack(host.zone, host.rack)
        let key = BlockKey(hostClass: hostClass, rack: rack)
        let slot = freeSlot(key)
        let block = slot >> PlacementIndex.blockShift
        slotOf[host.id] = Int32(slot)
        hosts[slot] = host
        let offered = host.offered.vector
        var seat = Seat.empty
        seat.host = host.id.rawValue
        seat.rank = mix64(host.id.rawValue ^ mix64(seed))
        seat.free = offered
        for i in 0..<4 where offered[i] > 0 { seat.inverse[i] = 1 / Double(offered[i]) }
        seat.isUsed = true
        seat.takesVMs = host.state.takesVMs
        let inside = RoomInside(host)
        seat.deviceMost = inside.devices.isEmpty ? 0 : Device.wholeMillis
        seat.hash = RoomHash.of(seat.free) &+ RoomHash.ofLayout(inside)
        for n in 0..<inside.nodes.count { seat.hash &+= RoomHash.ofNode(n, inside.nodes[n]) }
        for (d, left) in inside.devices.enumerated() { seat.hash &+= RoomHash.ofDevice(d, left) }
        insides[slot] = inside.nodes.isEmpty && inside.devices.isEmpty ? nil : inside
        seats[slot] = seat
        seats[slot].worth = worth(slot)
        blocks[block].count += 1
        blocks[block].span = max(blocks[block].span, slot - block << PlacementIndex.blockShift + 1)
        if seat.takesVMs { countTaking(slot, 1) }
        totals.add(host, sign: 1)
        changed(slot)
        return slot
    }

    private mutating func freeSlot(_ key: BlockKey) -> Int {
        for number in blocksOf[key] ?? [] where blocks[Int(number)].count < PlacementIndex.blockSize {
            let first = Int(number) << PlacementIndex.blockShift
            for slot in first..<first + PlacementIndex.blockSize where !seats[slot].isUsed { return slot }
        }
        let number: Int
        let zone = domains.rackZone[Int(key.rack)]
        if let reused = emptyBlocks.popLast() {
            number = Int(reused)
            leaveBunch(number)
            blocks[number] = Block(key: key, zone: zone)
        } else {
            number = blocks.count
            blocks.append(Block(key: key, zone: zone))
            for _ in 0..<PlacementIndex.blockSize {
                seats.append(.empty)
                insides.append(nil)
                hosts.append(nil)
                vmsOn.append([])
                lastChange.append(-1)
            }
        }
        joinBunch(number)
        // The newest block first: it is the one with room.
        blocksOf[key, default: []].insert(Int32(number), at: 0)
        return number << PlacementIndex.blockShift
    }

    private mutating func joinBunch(_ block: Int) {
        let hostClass = Int(blocks[block].key.hostClass)
        classBlocks[hostClass].blocks += 1
        let isFirst = classBlocks[hostClass].blocks == 1
        var bunch = isFirst ? mixedBunch : classBlocks[hostClass].bunch
        if bunch < 0 || bunches[Int(bunch)].blocks.count >= Bunch.blocksMax {
            bunch = Int32(bunches.count)
            bunches.append(Bunch(hostClass: isFirst ? -1 : Int32(hostClass)))
            if isFirst { mixedBunch = bunch } else { classBlocks[hostClass].bunch = bunch }
        }
        bunches[Int(bunch)].blocks.append(Int32(block))
        blocks[block].bunch = bunch
    }

    /// An empty block stays in its bunch until it is used for others.
    private mutating func leaveBunch(_ block: Int) {
        let bunch = blocks[block].bunch
        let hostClass = Int(blocks[block].key.hostClass)
        bunches[Int(bunch)].blocks.removeAll { Int($0) == block }
        classBlocks[hostClass].blocks -= 1
        // A bunch with room again is the next to be filled.
        if bunches[Int(bunch)].hostClass < 0 { mixedBunch = bunch } else { classBlocks[hostClass].bunch = bunch }
    }

    mutating func unseat(_ slot: Int) {
        guard let host = hosts[slot] else { preconditionFailure("slot \(slot) has no host") }
        precondition(vmsOn[slot].isEmpty, "slot \(slot) still has \(vmsOn[slot].count) VMs")
        let block = slot >> PlacementIndex.blockShift
        if seats[slot].takesVMs { countTaking(slot, -1) }
        totals.add(host, sign: -1)
        slotOf[host.id] = nil
        hosts[slot] = nil
        insides[slot] = nil
        seats[slot] = .empty
        blocks[block].count -= 1
        if blocks[block].count == 0 {
            let key = blocks[block].key
            blocksOf[key]?.removeAll { Int($0) == block }
            if blocksOf[key]?.isEmpty == true { blocksOf[key] = nil }
            emptyBlocks.append(Int32(block))
        }
        if !winners.isEmpty { changes.append(~Int32(slot)) }
    }

    mutating func countTaking(_ slot: Int, _ sign: Int) {
        let block = slot >> PlacementIndex.blockShift
        blocks[block].taking += sign
        domains.rackTaking[Int(blocks[block].key.rack)] += sign
        domains.zoneTaking[Int(blocks[block].zone)] += sign
        hostsTaking += sign
    }

    // MARK: VMs on seats

    mutating func putOn(_ slot: Int, _ vm: PlacedVM) {
        var vm = vm
        vm.slot = Int32(slot)
        vm.shape = shapes.add(Shape(vm.spec))
        take(slot, vm, 1)
        vmsOn[slot].append(vm.spec.id)
        for group in vm.spec.groups { countMember(group, slot, 1) }
        vms[vm.spec.id] = vm
        changed(slot)
    }

    mutating func takeOff(_ id: VMID) -> PlacedVM? {
        guard let vm = vms.removeValue(forKey: id) else { return nil }
        let slot = Int(vm.slot)
        shapes.remove(vm.shape)
        take(slot, vm, -1)
        guard let at = vmsOn[slot].lastIndex(of: id) else { preconditionFailure("VM \(id) is not on slot \(slot)") }
        vmsOn[slot].swapAt(at, vmsOn[slot].count - 1)
        vmsOn[slot].removeLast()
        for group in vm.spec.groups { countMember(group, slot, -1) }
        changed(slot)
        return vm
    }

    private mutating func take(_ slot: Int, _ vm: PlacedVM, _ sign: Int64) {
        let demand = vm.spec.demand.vector &* SIMD4(repeating: sign)
        seats[slot].free &-= demand
        seats[slot].hash &-= RoomHash.of(demand)
        seats[slot].vmCount += Int32(sign)
        if !vm.assignment.numaNodes.isEmpty {
            let share = Shape(vm.spec).perNode(vm.assignment.numaNodes.count) &* SIMD2(repeating: sign)
            for node in vm.assignment.numaNodes {
                insides[slot]?.nodes[Int(node)] &-= share
                seats[slot].hash &-= RoomHash.ofNode(Int(node), share)
            }
        }
        for use in vm.assignment.devices {
            let millis = use.millis * Int32(sign)
            insides[slot]?.devices[Int(use.device)] -= millis
            seats[slot].hash &-= RoomHash.ofDevice(Int(use.device), millis)
        }
        if !vm.assignment.devices.isEmpty { seats[slot].deviceMost = insides[slot]?.devices.max() ?? 0 }
        seats[slot].worth = worth(slot)
    }

    mutating func countMember(_ id: PlacementGroupID, _ slot: Int, _ sign: Int32) {
        let block = blocks[slot >> PlacementIndex.blockShift]
        let known: Void? = groups[id]?.change(slot: Int32(slot), rack: block.key.rack, zone: block.zone, sign)
        precondition(known != nil, "group \(id) is not known")
    }

    // MARK: Worth and the log of changes

    mutating func changed(_ slot: Int) {
        // Nobody remembers anything: nothing needs repair.
        if winners.isEmpty { return }
        lastChange[slot] = changesBase + changes.count
        changes.append(Int32(slot))
        if changes.count > 4 * seats.count + 4096 {
            // Whoever is further behind than half of the log starts afresh, which is cheaper than replaying it.
            let cut = changes.count / 2
            changes.removeFirst(cut)
            changesBase += cut
        }
    }

    mutating func worth(_ slot: Int) -> Int64 {
        if mix.parts.isEmpty { return 0 }
        let hash = seats[slot].hash
        let at = Int(truncatingIfNeeded: mix64(hash)) & (PlacementIndex.worthSlots - 1)
        if worths[at].key == hash && worths[at].value >= 0 { return worths[at].value }
        let value = computeWorth(seats[slot].free, insides[slot])
        worths[at] = RememberedWorth(key: hash, value: value)
        return value
    }

    func computeWorth(_ free: SIMD4<Int64>, _ inside: RoomInside?) -> Int64 {
        compiledMix.worth(of: free) + (inside.map { compiledMix.worthInside($0, free: free) } ?? 0)
    }
}
