import ClusterBase

// Which images there are.

extension RootStep {
    private func image(_ tenant: String, _ name: String) throws(StoreError) -> RootImage? {
        try access.record(RootImage.self, RootImage.key(tenant, name))
    }

    /// Under a name that is there already with the same bytes it only adds who keeps them.
    mutating func addImage(_ wanted: RootImage) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isName(wanted.name) || !(wanted.tenant.isEmpty || RootCheck.isName(wanted.tenant)) {
            return .refused(.invalid(.name))
        }
        if !RootCheck.isHash(wanted.sha256) { return .refused(.invalid(.hash)) }
        if !(1...RootLimits.imageBytesMax).contains(wanted.size) { return .refused(.invalid(.size)) }
        for node in wanted.holders {
            guard let known = try self.node(node), known.state != .removed else { return .refused(.unknownNode(node)) }
        }
        if var known = try image(wanted.tenant, wanted.name) {
            if known.sha256 != wanted.sha256 || known.size != wanted.size || known.isLeaving {
                return .refused(.imageExists(wanted.name))
            }
            known.holders = try present(known.holders)
            for node in wanted.holders { RootStep.enter(node, &known) }
            if known.guestBytes == 0 { (known.guestBytes, known.isQCOW2) = (wanted.guestBytes, wanted.isQCOW2) }
            put(known)
            return .done
        }
        if summary.images >= RootLimits.imagesMax { return .refused(.tooMany(.images)) }
        var image = wanted
        image.holders = []
        for node in wanted.holders { RootStep.enter(node, &image) }
        image.isLeaving = false
        image.createdAt = time
        image.createdBy = by
        put(image)
        summary.images += 1
        return .done
    }

    private static func enter(_ node: NodeID, _ image: inout RootImage) {
        if image.holders.contains(node) || image.holders.count >= RootImage.holdersMax { return }
        image.holders = (image.holders + [node]).sorted()
    }

    /// Those that are members still.
    private func present(_ holders: [NodeID]) throws(StoreError) -> [NodeID] {
        var present: [NodeID] = []
        for holder in holders where try node(holder)?.state ?? .removed != .removed { present.append(holder) }
        return present
    }

    /// A node has got a copy that it keeps, or has none any more.
    mutating func holdImage(
        _ tenant: String, _ name: String, _ sha256: [UInt8], _ node: NodeID, _ isHeld: Bool
    ) throws(StoreError) -> RootResult.Outcome {
        guard var image = try image(tenant, name), image.sha256 == sha256 else { return .refused(.unknownImage(name)) }
        guard let known = try self.node(node), known.state != .removed else { return .refused(.unknownNode(node)) }
        let before = image
        image.holders = try present(image.holders)
        if isHeld { RootStep.enter(node, &image) } else { image.holders.removeAll { $0 == node } }
        if image != before { put(image) }
        return .done
    }

    /// Only the removal that began last ends: what an earlier one has seen of the cells may be true no more.
    mutating func removeImage(
        _ tenant: String, _ name: String, _ step: RootImage.Removal, _ removal: UInt64
    ) throws(StoreError) -> RootResult.Outcome {
        guard var image = try image(tenant, name) else { return .refused(.unknownImage(name)) }
        let isOurs = image.isLeaving && image.removal == removal
        switch step {
        case .begin:
            image.isLeaving = true
            image.removal = revision.rawValue
            put(image)
        case .cancel:
            if !isOurs { return .done }
            image.isLeaving = false
            image.removal = 0
            put(image)
        case .finish:
            // Somebody cancelled it meanwhile.
            guard isOurs else { return .refused(.imageStays(name)) }
            delete(image)
            summary.images -= 1
        }
        return .done
    }
}
