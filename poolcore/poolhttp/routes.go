package poolhttp

import (
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// Routes lists what the handler serves.
func Routes() []nodeapi.Route {
	var out []nodeapi.Route
	for _, r := range (*handler)(nil).routes() {
		out = append(out, r.Route)
	}
	return out
}

func (h *handler) routes() []route {
	read := func(pattern string, do endpoint) route {
		return route{nodeapi.NewRoute(pattern, nodeapi.RoleReader), do}
	}
	act := func(pattern string, do endpoint) route {
		r := nodeapi.NewRoute(pattern, nodeapi.RoleOperator)
		r.Strict = true // also the one GET that shows credentials
		return route{r, do}
	}
	open := func(pattern string, do endpoint) route {
		r := nodeapi.NewRoute(pattern, "")
		r.Open, r.Strict = true, false
		return route{r, do}
	}
	return []route{
		open(nodeapi.RouteHealth, h.health),
		read(nodeapi.RoutePools, h.pools),
		read(nodeapi.RoutePoolStatus, plain(onPool(h.status))),
		act(nodeapi.RoutePoolWorkers, plain(onPool(h.workers))),
		act(nodeapi.RoutePreload, with(h.preload)),
		act(nodeapi.RoutePoolDrain, with(onPool(h.drain))),
		act(nodeapi.RouteUndrain, with(onPool(atOnce((*poolcore.Pool).Undrain)))),
		act(nodeapi.RouteReload, with(onPool(h.reload))),
		act(nodeapi.RoutePurge, with(onPool(h.purge))),
		act(nodeapi.RouteRestart, with(onPool(h.restart))),
		act(nodeapi.RouteBreakerReset, with(onPool(atOnce((*poolcore.Pool).ResetBreaker)))),
		read(nodeapi.RouteState, h.state),
		act(nodeapi.RouteWorkerStart, with(h.startWorker)),
		act(nodeapi.RouteWorkerStop, with(h.stopWorker)),
		read(nodeapi.RouteWorker, h.worker),
		read(nodeapi.RouteWorkerLogs, h.workerLogs),
		act(nodeapi.RouteWorkerDrain, with(h.drainWorker)),
		open(nodeapi.RouteWorkerReady, fromLoopback(with(h.workerReady))),
		read(nodeapi.RouteModels, h.models),
		act(nodeapi.RouteModelFetch, with(h.fetchModel)),
		read(nodeapi.RouteModel, h.model),
		act(nodeapi.RouteModelDelete, h.removeModel),
		act(nodeapi.RouteModelVerify, with(h.verifyModel)),
		act(nodeapi.RouteModelState, with(h.setModelState)),
		read(nodeapi.RouteOperation, h.operation),
		act(nodeapi.RouteCancel, h.cancel),
	}
}
