def least_score(table, precision):
    raise NotImplementedError
