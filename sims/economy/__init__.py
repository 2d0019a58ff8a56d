"""The economic level: months of jobs as arrays of random numbers, and the closed forms that they have to agree with.

Money is in units of the bounty unless a name says otherwise.
"""
