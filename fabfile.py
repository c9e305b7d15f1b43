"""List the verbs that `fab` offers, in the order an operator meets them."""

from invoke import Collection

from tasks import (
    add,
    backup,
    cert,
    deploy,
    drift,
    executor,
    failpoints,
    hosts,
    lifecycle,
    lock,
    logs,
    maintenance,
    sandbox,
    secrets,
    status,
)

executor.begin()
namespace = Collection(
    hosts.hosts,
    hosts.doctor,
    lifecycle.setup,
    cert.cert,
    deploy.plan,
    deploy.deploy,
    deploy.rollback,
    deploy.restart,
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
    logs.run,
    logs.shell,
    backup.backup,
    backup.restore,
    lock.lock,
    add.add,
    failpoints.failpoints,
    secrets=Collection.from_module(secrets),
    sandbox=Collection.from_module(sandbox),
)
