"""What `fab` loads: every verb of this project, in the order an operator meets them."""

from invoke import Collection

from tasks import drift, failpoints, hosts, lifecycle, lock, logs, maintenance, program, rollouts, sandbox, status

program.begin()
namespace = Collection(
    hosts.hosts,
    hosts.doctor,
    lifecycle.setup,
    rollouts.plan,
    rollouts.deploy,
    rollouts.rollback,
    rollouts.restart,
    lifecycle.stop,
    lifecycle.start,
    maintenance.maintenance,
    lifecycle.remove,
    status.status,
    status.releases,
    status.health,
    status.history,
    drift.drift,
    logs.logs,
    logs.execute,
    logs.shell,
    lock.lock,
    failpoints.failpoints,
    sandbox=Collection.from_module(sandbox),
)
