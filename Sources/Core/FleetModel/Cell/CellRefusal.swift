/// Why a cell did not carry out a command, an item of one, or a query. Nothing of it changed. `description` says which promise it would
/// have broken, and what to do.
public enum CellRefusal: Error, Hashable, Sendable {
    /// What there is a bound on.
    public enum Bound: UInt64, Hashable, Sendable {
        case hosts = 1, vms, groups, tenants, items, requests, commandBytes, specBytes, groupMembers
    }

    case malformed
    case unknownVersion(UInt64)
    /// A field of a specification or a description, and what is wrong with it.
    case invalid(field: String, String)
    case tooMany(Bound)
    case requestReused
    /// Another item of an atomic command was refused.
    case anotherItem

    case unknownHost(HostID)
    case unknownVM(VMID)
    case unknownGroup(String)
    case hostNameTaken(String)
    case vmNameTaken(String)
    case groupInUse(String)
    /// The generation is another one now.
    case generationChanged(UInt64)
    case incarnationOutdated(HostID)
    case hostInUse(HostID)
    case hostIsUp(HostID)

    case quotaExceeded(tenant: String, resource: String, limit: Int64, used: Int64, asked: Int64)
    /// The host can't take it: the rule that it breaks, in words.
    case doesNotFit(HostID, String)
    case hostTakesNone(HostID, HostState)
    case notWaiting(VMID)
    /// The VM is not where or what the command was planned for.
    case epochOutdated(VMID)
    case isDeleting(VMID)
    case migrationUnderWay(VMID)
    case noMigration(VMID)
    case notRunning(VMID)
    case boundToHost(VMID)
    case settingOutOfRange(CellSetting)
    /// Too many hosts were lost at once; an operator must look.
    case brakeHolds
}
