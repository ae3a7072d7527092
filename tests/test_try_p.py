from flow_runs import Site
def test_a(site: Site) -> None:
    import time
    t=time.time()
    changes = site.provision()
    print(time.time()-t)
    for c in changes: print(c)
    n=len(site.requests())
    t=time.time()
    for c in site.provision(): print(c)
    print(time.time()-t)
    print(site.writes(n))
    t=time.time()
    print(site.teardown())
    print(time.time()-t)
    print(site.teardown())
