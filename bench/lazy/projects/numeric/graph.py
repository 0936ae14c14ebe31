"""networkx: paths and centrality."""
import networkx as nx

graph = nx.karate_club_graph()
print(nx.shortest_path(graph, 16, 26))
centrality = nx.betweenness_centrality(graph)
print(sorted(centrality, key=centrality.get)[-3:], len(list(nx.find_cliques(graph))))
